'use strict';
// What the page's pictures are made of: volumes packed as ten-bit levels, and the state that all views share.

/** The bytes of a block of base64 and gzip in the page. */
async function unpack(id) {
  const text = document.getElementById(id).textContent;
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Volumes by name, (z, y, x): `levels` 0 to 1023 from `bottom` to `top`, and their eight highest bits. */
class Volumes {
  constructor(about, bytes) {
    Object.assign(this, about);
    const [nz, ny, nx] = this.shape, n = nz * ny * nx;
    this.count = n;
    this.planes = {};
    let from = 0;
    for (const plane of about.planes) {
      const high = bytes.subarray(from, from + n);
      from += n;
      let levels = high;
      if (plane.bits === 10) {
        const low = bytes.subarray(from, from + n);
        from += n;
        levels = new Uint16Array(n);
        for (let i = 0; i < n; i++) levels[i] = high[i] * 4 + low[i];
      }
      this.planes[plane.name] = { ...plane, high, levels };
    }
  }

  index([z, y, x]) {
    return (z * this.shape[1] + y) * this.shape[2] + x;
  }

  /** The value of a voxel in the volume's own unit; null where there is no such volume. */
  value(name, at) {
    const plane = this.planes[name];
    if (!plane) return null;
    const level = plane.bits === 10 ? plane.levels[this.index(at)] / 1023 : plane.high[this.index(at)] / 255;
    return plane.bottom + level * (plane.top - plane.bottom);
  }

  /** Number of the region that a voxel lies in, from 1; 0 for none. */
  region(at) {
    return this.planes.labels ? this.planes.labels.high[this.index(at)] : 0;
  }
}

/** What all views show; each view is told of every change. */
class State {
  constructor(volumes) {
    this.at = [...volumes.start];
    this.elements = volumes.elements.map(() => ({ on: true, opacity: 0.6, threshold: 0.25 }));
    this.clip = { axis: 'none', depth: 0.5 };
    this.region = 0;
    this.set = 'result';
    this.views = [];
  }

  change(patch) {
    Object.assign(this, patch);
    for (const view of this.views) view(this);
  }
}

/** 1, 2 or 5 times a power of ten, at most `length`. */
function nice(length) {
  const step = 10 ** Math.floor(Math.log10(length));
  return [5, 2, 1].find((k) => k * step <= length * 1.0001) * step;
}

/** A number with three digits, and a true minus. */
function say(value, digits = 3) {
  if (value === null || !Number.isFinite(value)) return 'unknown';
  const text = Math.abs(value) >= 1000 ? value.toFixed(0) : String(Number(value.toPrecision(digits)));
  return text.replace('-', '\u2212');
}
