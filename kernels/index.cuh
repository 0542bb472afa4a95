#pragma once
// One thread per element of a C-ordered array (planes, rows, ny); threadIdx.x runs along y, so loads coalesce.

using Index = long long;  // six components of 1024^3 voxels pass 2^31

struct Element {
    int plane, row, y;
    bool inside;
    Index at;  // where the element lies in the array

    __device__ Element(int planes, int rows, int ny) {
        plane = blockIdx.z;
        row = blockIdx.y * blockDim.y + threadIdx.y;
        y = blockIdx.x * blockDim.x + threadIdx.x;
        inside = plane < planes && row < rows && y < ny;
        at = (Index(plane) * rows + row) * ny + y;
    }
};
