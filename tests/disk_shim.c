/* A disk that answers an error: preloaded, it fails the n-th system call that writes under a path.

   `disk_fail(path, n, error, from_then_on)` arms it, n counted from 1, 0 for a disk in order;
   `disk_log()` is what was called since, a line each: open, write, fsync, ..., and the path. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static char prefix[4096], called[1 << 22];
static long armed, calls;
static size_t used;
static int answer, sticky;

void disk_fail(const char *path, long n, int error, int from_then_on)
{
    snprintf(prefix, sizeof prefix, "%s", path);
    called[0] = 0;
    calls = 0, used = 0, armed = n, answer = error, sticky = from_then_on;
}
const char *disk_log(void) { return called; }

static int fails(const char *what, const char *path)
{
    char full[8192];
    if (!prefix[0] || !path) return 0;
    if (path[0] != '/') {
        char here[4096];
        if (!getcwd(here, sizeof here)) return 0;
        snprintf(full, sizeof full, "%s/%s", here, path);
        path = full;
    }
    if (strncmp(path, prefix, strlen(prefix))) return 0;
    calls++;
    if (used + strlen(path) + 16 < sizeof called) used += sprintf(called + used, "%s %s\n", what, path);
    if (armed && (calls == armed || (sticky && calls > armed))) {
        errno = answer;
        return 1;
    }
    return 0;
}

static int fails_fd(const char *what, int fd)
{
    char link[64], path[4096];
    if (!prefix[0]) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) return 0;
    path[n] = 0;
    return fails(what, path);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define OPENING(name)                                                            \
    int name(const char *path, int flags, ...)                                   \
    {                                                                            \
        va_list more;                                                            \
        va_start(more, flags);                                                   \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;  \
        va_end(more);                                                            \
        if (flags & (O_WRONLY | O_RDWR | O_CREAT) && fails("open", path)) return -1; \
        return REAL(name)(path, flags, mode);                                    \
    }
OPENING(open)
OPENING(open64)

ssize_t write(int fd, const void *data, size_t n) { return fails_fd("write", fd) ? -1 : REAL(write)(fd, data, n); }
ssize_t pwrite64(int fd, const void *data, size_t n, off64_t at) { return fails_fd("write", fd) ? -1 : REAL(pwrite64)(fd, data, n, at); }
int ftruncate64(int fd, off64_t n) { return fails_fd("truncate", fd) ? -1 : REAL(ftruncate64)(fd, n); }
int fsync(int fd) { return fails_fd("fsync", fd) ? -1 : REAL(fsync)(fd); }
int rename(const char *a, const char *b) { return fails("rename", a) ? -1 : REAL(rename)(a, b); }
int mkdir(const char *path, mode_t mode) { return fails("mkdir", path) ? -1 : REAL(mkdir)(path, mode); }
int unlink(const char *path) { return fails("unlink", path) ? -1 : REAL(unlink)(path); }
int unlinkat(int fd, const char *path, int flags) { return fails_fd("unlink", fd) ? -1 : REAL(unlinkat)(fd, path, flags); }
int rmdir(const char *path) { return fails("rmdir", path) ? -1 : REAL(rmdir)(path); }
