'use strict';
// Three linked planes through the crosshair, drawn on plain canvases: they need no WebGL.

const ACROSS = { z: [1, 2], y: [0, 2], x: [1, 0] };  // plane: axes that run down and to the right
const AXES = ['z', 'y', 'x'];

class Slice {
  constructor(canvas, volumes, state) {
    this.canvas = canvas;
    this.volumes = volumes;
    this.state = state;
    this.normal = AXES.indexOf(canvas.dataset.plane);
    [this.down, this.right] = ACROSS[canvas.dataset.plane];
    this.small = document.createElement('canvas');
    this.small.width = volumes.shape[this.right];
    this.small.height = volumes.shape[this.down];
    this.picture = this.small.getContext('2d').createImageData(this.small.width, this.small.height);
    const zoom = Math.max(1, Math.round(480 / Math.max(this.small.width, this.small.height)));
    canvas.width = this.small.width * zoom;
    canvas.height = this.small.height * zoom;
    this.zoom = zoom;
    canvas.addEventListener('pointerdown', (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.point(event);
    });
    canvas.addEventListener('pointermove', (event) => {
      if (event.buttons || event.pointerType === 'mouse') this.point(event, !event.buttons);
    });
    canvas.addEventListener('pointerleave', () => this.state.change({ hover: null }));
    canvas.addEventListener('keydown', (event) => this.key(event));
    canvas.addEventListener('wheel', (event) => {
      if (document.activeElement !== canvas) return;  // else the page scrolls
      event.preventDefault();
      this.step(this.normal, Math.sign(event.deltaY));
    }, { passive: false });
  }

  /** The voxel below a pointer: the crosshair goes there, or its values are shown. */
  point(event, hover = false) {
    const box = this.canvas.getBoundingClientRect();
    const at = [...this.state.at];
    const share = [(event.clientY - box.top) / box.height, (event.clientX - box.left) / box.width];
    [this.down, this.right].forEach((axis, i) => {
      const n = this.volumes.shape[axis];
      at[axis] = Math.min(n - 1, Math.max(0, Math.floor(share[i] * n)));
    });
    this.state.change(hover ? { hover: at } : { at, hover: null });
  }

  step(axis, by) {
    const at = [...this.state.at];
    at[axis] = Math.min(this.volumes.shape[axis] - 1, Math.max(0, at[axis] + by));
    this.state.change({ at, hover: null });
  }

  key(event) {
    const moves = {
      ArrowUp: [this.down, -1], ArrowDown: [this.down, 1], ArrowLeft: [this.right, -1], ArrowRight: [this.right, 1],
      PageUp: [this.normal, 1], PageDown: [this.normal, -1],
    };
    if (!moves[event.key]) return;
    event.preventDefault();
    this.step(...moves[event.key]);
  }

  /** Step in the flat array along an axis. */
  stride(axis) {
    return [this.volumes.shape[1] * this.volumes.shape[2], this.volumes.shape[2], 1][axis];
  }

  draw() {
    const { volumes, state, picture, small, canvas, zoom } = this;
    const start = state.at[this.normal] * this.stride(this.normal);
    const [down, right] = [this.stride(this.down), this.stride(this.right)];
    const shown = volumes.elements
      .map((e, i) => ({ plane: volumes.planes[`${canvas.dataset.set}/${i}`], colour: e.colour, own: state.elements[i], e }))
      .filter((s) => s.plane && s.own.on);
    for (const s of shown) {
      const { bottom, top } = s.plane;
      s.scale = (top - bottom) / 1023 / s.e.bright;
      s.zero = bottom / s.e.bright;
    }
    let out = 0;
    for (let v = 0; v < small.height; v++) {
      for (let u = 0, i = start + v * down; u < small.width; u++, i += right) {
        let r = 0, g = 0, b = 0;
        for (const s of shown) {
          const light = Math.min(1, Math.max(0, s.zero + s.plane.levels[i] * s.scale)) * 255;
          r += light * s.colour[0]; g += light * s.colour[1]; b += light * s.colour[2];
        }
        picture.data[out++] = r; picture.data[out++] = g; picture.data[out++] = b; picture.data[out++] = 255;
      }
    }
    small.getContext('2d').putImageData(picture, 0, 0);
    const pen = canvas.getContext('2d');
    pen.imageSmoothingEnabled = false;
    pen.drawImage(small, 0, 0, canvas.width, canvas.height);
    if (volumes.planes.labels) this.outline(pen, start, down, right);
    const x = (state.at[this.right] + 0.5) * zoom, y = (state.at[this.down] + 0.5) * zoom;
    pen.strokeStyle = 'rgba(255,255,255,.45)';
    pen.lineWidth = 1;
    pen.beginPath();
    pen.moveTo(x, 0); pen.lineTo(x, canvas.height);
    pen.moveTo(0, y); pen.lineTo(canvas.width, y);
    pen.stroke();
    const length = nice(0.3 * small.width * volumes.voxel_nm);
    const bar = length / volumes.voxel_nm * zoom, edge = canvas.height - 14;
    pen.fillStyle = '#fff';
    pen.fillRect(12, edge, bar, 4);
    pen.font = '600 17px system-ui, sans-serif';
    pen.fillText(`${say(length)} nm`, 12, edge - 7);
  }

  /** Borders of the regions in this plane. */
  outline(pen, start, down, right) {
    const labels = this.volumes.planes.labels.high, { zoom, small } = this;
    for (const chosen of [false, true]) {
      pen.beginPath();
      for (let v = 0; v < small.height; v++) {
        for (let u = 0; u < small.width; u++) {
          const i = start + v * down + u * right, own = labels[i];
          const next = u + 1 < small.width ? labels[i + right] : own;
          const below = v + 1 < small.height ? labels[i + down] : own;
          const is = (other) => other !== own && (!chosen || own === this.state.region || other === this.state.region);
          if (is(next)) { pen.moveTo((u + 1) * zoom, v * zoom); pen.lineTo((u + 1) * zoom, (v + 1) * zoom); }
          if (is(below)) { pen.moveTo(u * zoom, (v + 1) * zoom); pen.lineTo((u + 1) * zoom, (v + 1) * zoom); }
        }
      }
      pen.strokeStyle = chosen ? '#ffe14d' : '#fff';
      pen.lineWidth = chosen ? 3.5 : 1.5;
      pen.stroke();
      if (!this.state.region) break;
    }
  }
}
