'use strict';
// All elements in three dimensions, by marching rays through a 3D texture (WebGL2). A first pass gives light and the
// nearest region of each ray, at a resolution that the machine manages; a second one lays both on the screen.

const CORNERS = `#version 300 es
out vec2 at;
void main() { at = vec2(gl_VertexID % 2 * 4 - 1, gl_VertexID / 2 * 4 - 1); gl_Position = vec4(at, 0, 1); }`;

const MARCH = `#version 300 es
precision highp float; precision highp sampler3D;
uniform sampler3D data, labels;
uniform mat3 turn;        // from the view (right, down, away) to the volume (x, y, z)
uniform vec2 span;        // half of what is in view
uniform vec3 half_edges, pivot;
uniform vec4 low, zero, bright, opacity;  // levels of the texture
uniform vec3 colours[4];
uniform vec4 plane;       // what lies beyond is cut away
uniform vec3 voxel;       // of the texture, its edge being 1
uniform float stride;
uniform int chosen, regions;
in vec2 at;
layout(location = 0) out vec4 light;
layout(location = 1) out vec4 feature;
vec4 weights(vec3 q) {
  vec4 s = texture(data, q);
  return opacity * smoothstep(low - .04, low + .04, s) * clamp((s - zero) / bright, 0., 1.);
}
float sum(vec4 w) { return dot(w, vec4(1)); }
void main() {
  vec3 along = turn * vec3(0, 0, 1), from = pivot + turn * vec3(at.x * span.x, -at.y * span.y, 0);
  vec3 safe = mix(vec3(1e-6), along, step(1e-6, abs(along)));
  vec3 a = (-half_edges - from) / safe, b = (half_edges - from) / safe;
  vec3 least = min(a, b), most = max(a, b);
  float enter = max(max(least.x, least.y), least.z), leave = min(min(most.x, most.y), most.z);
  light = vec4(0); feature = vec4(0);
  float jitter = fract(sin(dot(gl_FragCoord.xy, vec2(12.9898, 78.233))) * 43758.5453);
  int found = 0;
  for (float t = enter + stride * jitter; t < leave; t += stride) {
    vec3 p = from + t * along;
    if (dot(p, plane.xyz) < plane.w) continue;
    vec3 q = p / (2. * half_edges) + .5;
    if (regions > 0 && (found == 0 || found != chosen)) {
      int r = int(texture(labels, q).r * 255. + .5);
      if (r > 0 && (found == 0 || r == chosen)) found = r;
    }
    if (light.a > .98) { if (regions == 0 || found > 0) break; continue; }
    vec4 w = weights(q);
    float all = sum(w);
    if (all < .01) continue;
    float peak = max(max(w.x, w.y), max(w.z, w.w));
    vec3 colour = (w.x * colours[0] + w.y * colours[1] + w.z * colours[2] + w.w * colours[3]) / peak;
    // a step to one side only, and one loop for the three: half the samples, and a program that compiles in half the time
    vec3 slope = vec3(0);
    for (int k = 0; k < 3; k++) {
      vec3 axis = vec3(k == 0, k == 1, k == 2);
      slope += 2. * axis * (sum(weights(q + axis * voxel)) - all);
    }
    float steep = length(slope);
    vec3 lamp = turn * normalize(vec3(.5, .7, 1));
    float lit = mix(.85, .3 + .7 * abs(dot(slope, lamp)) / max(steep, 1e-4), clamp(4. * steep, 0., 1.));
    float opaque = 1. - exp(-all * stride * 60.);
    light += (1. - light.a) * opaque * vec4(colour * lit, 1);
  }
  feature = vec4(float(found) / 255., 0, 0, 1);
}`;

const COMPOSE = `#version 300 es
precision highp float;
uniform sampler2D light, feature;
uniform int chosen;
uniform vec2 pixel;       // of the screen, in units of the picture
in vec2 at;
out vec4 colour;
int id(vec2 q) { return int(texture(feature, q).r * 255. + .5); }
void main() {
  vec2 q = at * .5 + .5;
  colour = vec4(texture(light, q).rgb + vec3(.03, .035, .05) * (1. - texture(light, q).a), 1);
  int own = id(q);
  bool edge = false, bold = false;
  for (int k = 1; k <= 2; k++) for (int i = 0; i < 4; i++) {
    vec2 move = pixel * float(k) * vec2(i == 0 ? 1 : i == 1 ? -1 : 0, i == 2 ? 1 : i == 3 ? -1 : 0);
    int other = id(q + move);
    if (other == own) continue;
    bool near = chosen > 0 && (own == chosen || other == chosen);
    if (k == 1) edge = true;
    if (near) bold = true;
  }
  if (bold) colour = vec4(1, .88, .3, 1); else if (edge) colour = mix(colour, vec4(1), .75);
}`;

class View3D {
  /** Throws where the browser has no WebGL2. */
  constructor(canvas, volumes, state) {
    const gl = canvas.getContext('webgl2', { antialias: false, preserveDrawingBuffer: true, powerPreference: 'low-power' });
    if (!gl) throw new Error('no WebGL2');
    Object.assign(this, { canvas, gl, volumes, state, zoom: 1, cost: 4e-6, drawings: 0, still: null, sets: ['result'] });
    this.march = this.program(MARCH);
    this.compose = this.program(COMPOSE);
    const [nz, ny, nx] = volumes.shape, most = Math.max(nx, ny, nz);
    this.half = [nx, ny, nz].map((n) => n / most / 2);
    this.pivot = [2, 1, 0].map((a) => (volumes.start[a] + 0.5 - volumes.shape[a] / 2) / most);
    this.reach = volumes.reach / most;
    this.textures = {};
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    const empty = new Uint8Array(1);
    this.labels = volumes.planes.labels
      ? this.texture3D(gl.R8, gl.RED, [nx, ny, nz], volumes.planes.labels.high, gl.NEAREST)
      : this.texture3D(gl.R8, gl.RED, [1, 1, 1], empty, gl.NEAREST);
    this.frame = gl.createFramebuffer();
    this.reset();
    this.listen();
  }

  program(source) {
    const gl = this.gl, program = gl.createProgram();
    for (const [kind, text] of [[gl.VERTEX_SHADER, CORNERS], [gl.FRAGMENT_SHADER, source]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program));
    const places = {};
    return { program, at: (name) => (places[name] ??= gl.getUniformLocation(program, name)) };
  }

  texture3D(kind, format, [nx, ny, nz], bytes, filter) {
    const gl = this.gl, texture = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_3D, texture);
    gl.texImage3D(gl.TEXTURE_3D, 0, kind, nx, ny, nz, 0, format, gl.UNSIGNED_BYTE, bytes);
    for (const p of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_3D, p, filter);
    for (const p of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T, gl.TEXTURE_WRAP_R]) {
      gl.texParameteri(gl.TEXTURE_3D, p, gl.CLAMP_TO_EDGE);
    }
    return texture;
  }

  /** Up to four elements, those that are on, as the channels of a texture. */
  channels() {
    return this.state.elements.map((e, i) => (e.on ? i : -1)).filter((i) => i >= 0).slice(0, 4);
  }

  data(set) {
    const key = `${set}:${this.channels()}`;
    if (!this.textures[key]) {
      const { volumes, gl } = this, packed = new Uint8Array(4 * volumes.count);
      this.channels().forEach((e, c) => {
        const high = volumes.planes[`${set}/${e}`].high;
        for (let i = 0; i < high.length; i++) packed[4 * i + c] = high[i];
      });
      const [nz, ny, nx] = volumes.shape;
      this.textures[key] = this.texture3D(gl.RGBA8, gl.RGBA, [nx, ny, nz], packed, gl.LINEAR);
    }
    return this.textures[key];
  }

  reset() {
    const [a, b] = [0.6, -0.45];  // turned a little, seen a little from above
    const ca = Math.cos(a), sa = Math.sin(a), cb = Math.cos(b), sb = Math.sin(b);
    this.turn = [[ca, 0, -sa], [sb * sa, cb, sb * ca], [cb * sa, -sb, cb * ca]];  // rows: right, down, away
    this.zoom = 1;
  }

  /** Turn about the view's own axes, radians. */
  rotate(about_down, about_right) {
    const [r, d, w] = this.turn;
    const mix = (p, q, a) => p.map((v, i) => v * Math.cos(a) + q[i] * Math.sin(a));
    const right = mix(r, w, about_down), away = mix(w, r, -about_down);
    this.turn = [right, mix(d, away, about_right), mix(away, d, -about_right)];
    this.ask();
  }

  listen() {
    const { canvas } = this, fingers = new Map();
    let apart = 0, moved = 0;
    canvas.addEventListener('pointerdown', (event) => {
      canvas.setPointerCapture(event.pointerId);
      fingers.set(event.pointerId, [event.clientX, event.clientY]);
      moved = 0;
      apart = 0;
    });
    canvas.addEventListener('pointermove', (event) => {
      const before = fingers.get(event.pointerId);
      if (!before) return;
      fingers.set(event.pointerId, [event.clientX, event.clientY]);
      const [dx, dy] = [event.clientX - before[0], event.clientY - before[1]];
      moved += Math.abs(dx) + Math.abs(dy);
      if (fingers.size === 1) {
        this.rotate(dx * 0.01, dy * 0.01);
      } else {
        const [p, q] = [...fingers.values()];
        const now = Math.hypot(p[0] - q[0], p[1] - q[1]);
        if (apart) this.enlarge(now / apart);
        apart = now;
      }
    });
    const up = (event) => {
      if (fingers.delete(event.pointerId) && moved < 4 && event.type === 'pointerup') this.pick(event);
    };
    canvas.addEventListener('pointerup', up);
    canvas.addEventListener('pointercancel', up);
    canvas.addEventListener('dblclick', () => { this.reset(); this.ask(); });
    canvas.addEventListener('wheel', (event) => {
      if (document.activeElement !== canvas && !event.ctrlKey) return;  // else the page scrolls
      event.preventDefault();
      this.enlarge(Math.exp(-0.0015 * event.deltaY));
    }, { passive: false });
    canvas.addEventListener('keydown', (event) => {
      const acts = {
        ArrowLeft: () => this.rotate(-0.1, 0), ArrowRight: () => this.rotate(0.1, 0),
        ArrowUp: () => this.rotate(0, -0.1), ArrowDown: () => this.rotate(0, 0.1),
        '+': () => this.enlarge(1.15), '=': () => this.enlarge(1.15), '-': () => this.enlarge(1 / 1.15),
        Home: () => { this.reset(); this.ask(); },
      };
      if (!acts[event.key]) return;
      event.preventDefault();
      acts[event.key]();
    });
    new ResizeObserver(() => this.ask()).observe(canvas);
  }

  enlarge(by) {
    this.zoom = Math.min(12, Math.max(0.5, this.zoom * by));
    this.ask();
  }

  /** Draw soon: coarsely at once, finely when nothing has moved for a while. */
  ask() {
    clearTimeout(this.still);
    if (!this.waiting) {
      this.waiting = true;
      requestAnimationFrame(() => { this.waiting = false; this.draw(0.05); });
    }
    this.still = setTimeout(() => {
      this.draw(1);
      if (this.fine < 1) this.still = setTimeout(() => this.draw(1.5), 50);  // the cost is known better now
    }, 250);
  }

  size() {
    const box = this.canvas.getBoundingClientRect(), ratio = Math.min(2, window.devicePixelRatio || 1);
    return [Math.max(2, Math.round(box.width * ratio)), Math.max(2, Math.round(box.height * ratio))];
  }

  /** Half of what is in view, for each of the sets that stand side by side. */
  span(width, height) {
    const reach = 1.12 * this.reach / this.zoom;
    const aspect = width / this.sets.length / height;
    return aspect > 1 ? [reach * aspect, reach] : [reach, reach / aspect];
  }

  /** One picture that takes about `seconds` at most. */
  draw(seconds) {
    const { gl, canvas } = this, [width, height] = this.size();
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const fine = Math.min(1, Math.max(0.12, Math.sqrt(seconds / (this.cost * width * height))));
    const [w, h] = [Math.ceil(width * fine), Math.ceil(height * fine)];
    this.fine = fine;
    const started = performance.now();
    this.target(w, h);
    this.sets.forEach((set, k) => this.cast(set, k, w, h));
    gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(4));  // waits for the rays
    const took = (performance.now() - started) / 1000 / (w * h);
    // the first picture also waits for compilers and textures
    this.cost = this.drawings++ < 2 ? took : 0.5 * (this.cost + took);
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.viewport(0, 0, width, height);
    gl.useProgram(this.compose.program);
    gl.activeTexture(gl.TEXTURE0);
    gl.bindTexture(gl.TEXTURE_2D, this.light);
    gl.activeTexture(gl.TEXTURE1);
    gl.bindTexture(gl.TEXTURE_2D, this.feature);
    gl.uniform1i(this.compose.at('light'), 0);
    gl.uniform1i(this.compose.at('feature'), 1);
    gl.uniform1i(this.compose.at('chosen'), this.state.region);
    gl.uniform2f(this.compose.at('pixel'), 1.2 / width, 1.2 / height);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
    this.drawn?.(this);
  }

  /** Two pictures of a size to draw into. */
  target(w, h) {
    const gl = this.gl;
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.frame);
    if (this.drawnSize !== `${w}x${h}`) {
      const make = (filter, slot) => {
        const texture = gl.createTexture();
        gl.bindTexture(gl.TEXTURE_2D, texture);
        gl.texStorage2D(gl.TEXTURE_2D, 1, gl.RGBA8, w, h);
        for (const p of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, p, filter);
        for (const p of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(gl.TEXTURE_2D, p, gl.CLAMP_TO_EDGE);
        gl.framebufferTexture2D(gl.FRAMEBUFFER, slot, gl.TEXTURE_2D, texture, 0);
        return texture;
      };
      for (const old of [this.light, this.feature]) if (old) gl.deleteTexture(old);
      this.light = make(gl.LINEAR, gl.COLOR_ATTACHMENT0);
      this.feature = make(gl.NEAREST, gl.COLOR_ATTACHMENT1);
      gl.drawBuffers([gl.COLOR_ATTACHMENT0, gl.COLOR_ATTACHMENT1]);
      this.drawnSize = `${w}x${h}`;
      this.picture = [w, h];
    }
  }

  cast(set, k, w, h) {
    const { gl, march, volumes, state } = this, channels = this.channels();
    const left = Math.round(w * k / this.sets.length), right = Math.round(w * (k + 1) / this.sets.length);
    gl.viewport(left, 0, right - left, h);
    gl.useProgram(march.program);
    gl.activeTexture(gl.TEXTURE0);
    gl.bindTexture(gl.TEXTURE_3D, this.data(set));
    gl.activeTexture(gl.TEXTURE1);
    gl.bindTexture(gl.TEXTURE_3D, this.labels);
    gl.uniform1i(march.at('data'), 0);
    gl.uniform1i(march.at('labels'), 1);
    const [r, d, a] = this.turn;
    gl.uniformMatrix3fv(march.at('turn'), false, [...r, ...d, ...a]);
    gl.uniform2fv(march.at('span'), this.span(w, h));
    gl.uniform3fv(march.at('half_edges'), this.half);
    gl.uniform3fv(march.at('pivot'), this.pivot);
    const four = (f, other) => [0, 1, 2, 3].map((c) => (c < channels.length ? f(channels[c]) : other));
    const range = (e) => volumes.planes[`${set}/${e}`].top - volumes.planes[`${set}/${e}`].bottom;
    const level = (e, value) => (value - volumes.planes[`${set}/${e}`].bottom) / range(e);
    const cut = (e) => level(e, state.elements[e].threshold * volumes.elements[e].typical);
    gl.uniform4fv(march.at('low'), four(cut, 2));
    gl.uniform4fv(march.at('zero'), four((e) => level(e, 0), 0));
    gl.uniform4fv(march.at('bright'), four((e) => volumes.elements[e].bright / range(e), 1));
    gl.uniform4fv(march.at('opacity'), four((e) => state.elements[e].opacity ** 2, 0));
    gl.uniform3fv(march.at('colours'), four((e) => volumes.elements[e].colour, [0, 0, 0]).flat());
    gl.uniform4fv(march.at('plane'), this.plane());
    const [nz, ny, nx] = volumes.shape;
    gl.uniform3f(march.at('voxel'), 1 / nx, 1 / ny, 1 / nz);
    gl.uniform1f(march.at('stride'), 0.8 / Math.max(nx, ny, nz));
    gl.uniform1i(march.at('chosen'), state.region);
    gl.uniform1i(march.at('regions'), volumes.regions.length);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }

  /** The cut: normal into what stays, and where. */
  plane() {
    const { axis, depth } = this.state.clip;
    if (axis === 'none') return [0, 0, 0, -1];
    const k = { x: 0, y: 1, z: 2 }[axis];
    const normal = k === undefined ? this.turn[2] : [0, 1, 2].map((i) => (i === k ? 1 : 0));
    const reach = k === undefined ? this.reach : this.half[k];
    return [...normal, (2 * depth - 1) * reach + (k === undefined ? this.pivot.reduce((t, v, i) => t + v * normal[i], 0) : 0)];
  }

  /** Where a voxel lies on the screen, as shares of its width and height; for the first of the sets. */
  place(at) {
    const most = Math.max(...this.volumes.shape), n = this.volumes.shape;
    const p = [2, 1, 0].map((axis, i) => (at[axis] + 0.5 - n[axis] / 2) / most - this.pivot[i]);
    const [w, h] = this.size(), span = this.span(w, h);
    const dot = (row) => row.reduce((s, v, i) => s + v * p[i], 0);
    return [(0.5 + 0.5 * dot(this.turn[0]) / span[0]) / this.sets.length, 0.5 + 0.5 * dot(this.turn[1]) / span[1]];
  }

  /** The region below the pointer becomes the chosen one. */
  pick(event) {
    if (!this.volumes.regions.length || !this.picture) return;
    const { gl } = this, box = this.canvas.getBoundingClientRect(), [w, h] = this.picture, pixel = new Uint8Array(4);
    const x = Math.floor((event.clientX - box.left) / box.width * w);
    const y = Math.floor((1 - (event.clientY - box.top) / box.height) * h);
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.frame);
    gl.readBuffer(gl.COLOR_ATTACHMENT1);
    gl.readPixels(x, y, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, pixel);
    gl.readBuffer(gl.COLOR_ATTACHMENT0);
    if (pixel[0]) this.choose?.(pixel[0]);
  }
}
