'use strict';
// The part of the page in which the volumes are looked at: one state, and views that follow it.

/** Text of a voxel: where it is, what each element has there, how sure that is, and what was true. */
function tell(volumes, at) {
  const [z, y, x] = at, rows = [];
  const sd = volumes.spread ? `<th scope="col">\u00b1 ${volumes.spread}</th>` : '';
  const truth = volumes.planes['truth/0'] ? '<th scope="col">truth</th>' : '';
  volumes.elements.forEach((e, i) => {
    const value = volumes.value(`result/${i}`, at), error = volumes.value(`sd/${i}`, at);
    const cells = [say(value), e.typical > 0 ? say(value / e.typical, 2) : 'unknown'];
    if (sd) cells.push(error === null ? '' : say(error, 2));
    if (truth) cells.push(say(volumes.value(`truth/${i}`, at)));
    rows.push(`<tr><th scope="row"></th>${cells.map((c) => `<td class="n">${c}</td>`).join('')}</tr>`);
  });
  const region = volumes.region(at), nm = (v, n) => say((v - (n - 1) / 2) * volumes.voxel_nm);
  const where = `voxel z ${z}, y ${y}, x ${x}; ${nm(z, volumes.shape[0])}, ${nm(y, volumes.shape[1])}, ` +
    `${nm(x, volumes.shape[2])} nm from the middle`;
  const head = `<tr><th scope="col">element</th><th scope="col">counts per voxel</th><th scope="col">of pure phase</th>`;
  const box = document.createElement('div');
  box.innerHTML = `<p></p><table>${head}${sd}${truth}</tr>${rows.join('')}</table><p class="inside"></p>`;
  box.querySelector('p').textContent = where;
  box.querySelectorAll('th[scope=row]').forEach((cell, i) => { cell.textContent = volumes.elements[i].name; });
  box.querySelector('.inside').textContent = region ? `in ${volumes.regions[region - 1].text}` : '';
  return box;
}

/** The frame of the volume, its axes and a scale bar, above the rays; for print with what the rays show, too. */
function frame(over, view, volumes) {
  const pen = over.getContext('2d'), [w, h] = [view.canvas.width, view.canvas.height];
  if (over.width !== w || over.height !== h) Object.assign(over, { width: w, height: h });
  pen.clearRect(0, 0, w, h);
  if (view.printing) pen.drawImage(view.canvas, 0, 0);
  const n = volumes.shape, ratio = w / view.canvas.getBoundingClientRect().width, share = w / view.sets.length;
  view.sets.forEach((set, k) => {
    const spot = (z, y, x) => {
      const [u, v] = view.place([z * n[0] - 0.5, y * n[1] - 0.5, x * n[2] - 0.5]);
      return [u * w + k * share, v * h];
    };
    pen.save();
    pen.beginPath();
    pen.rect(k * share, 0, share, h);
    pen.clip();
    pen.strokeStyle = 'rgba(255,255,255,.28)';
    pen.lineWidth = ratio;
    pen.beginPath();
    for (const a of [0, 1]) {
      for (const b of [0, 1]) {
        for (const line of [[[0, a, b], [1, a, b]], [[a, 0, b], [a, 1, b]], [[a, b, 0], [a, b, 1]]]) {
          pen.moveTo(...spot(...line[0]));
          pen.lineTo(...spot(...line[1]));
        }
      }
    }
    pen.stroke();
    pen.fillStyle = '#dde3ee';
    pen.font = `${13 * ratio}px system-ui, sans-serif`;
    pen.fillText('z (beam)', ...spot(1, 0, 0));
    pen.fillText('y (tilt axis)', ...spot(0, 1, 0));
    pen.fillText('x', ...spot(0, 0, 1));
    pen.restore();
    if (view.sets.length > 1) {
      pen.fillStyle = '#fff';
      pen.fillText(volumes.words[set], k * share + 12 * ratio, 22 * ratio);
    }
  });
  const nm = view.span(w, h)[0] * 2 * Math.max(...n) * volumes.voxel_nm / share;  // of a pixel
  const length = nice(0.25 * share * nm);
  pen.fillStyle = '#fff';
  pen.fillRect(14 * ratio, h - 18 * ratio, length / nm, 4 * ratio);
  pen.font = `600 ${14 * ratio}px system-ui, sans-serif`;
  pen.fillText(`${say(length)} nm`, 14 * ratio, h - 25 * ratio);
}

/** Sliders and boxes write into the state; several may show the same thing. */
function controls(root, state, space) {
  for (const input of root.querySelectorAll('[data-element]')) {
    const own = state.elements[+input.dataset.element], key = input.dataset.key;
    if (key === 'on') input.checked = own.on;
    else input.value = own[key];
    input.addEventListener('input', () => {
      own[key] = key === 'on' ? input.checked : +input.value;
      state.change({});
    });
  }
  const cut = root.querySelector('[name=cut]'), depth = root.querySelector('[name=depth]');
  const clip = () => {
    depth.disabled = cut.value === 'none';
    state.change({ clip: { axis: cut.value, depth: +depth.value } });
  };
  cut?.addEventListener('input', clip);
  depth?.addEventListener('input', clip);
  root.querySelector('[name=side]')?.addEventListener('input', (event) => {
    if (space.view) space.view.sets = event.target.checked ? ['result', 'truth'] : ['result'];
    state.change({});
  });
  root.querySelector('[name=home]')?.addEventListener('click', () => { space.view?.reset(); space.view?.ask(); });
  for (const input of root.querySelectorAll('[data-axis]')) {
    const axis = +input.dataset.axis;
    input.addEventListener('input', () => {
      const at = [...state.at];
      at[axis] = +input.value;
      state.change({ at, hover: null });
    });
    state.views.push(() => { input.value = state.at[axis]; });
  }
}

/** The viewer: volumes, slices, values and controls; the third dimension starts when it comes into view. Gives what
 * chooses a region. */
async function build(root) {
  const about = JSON.parse(document.getElementById('about').textContent);
  const volumes = new Volumes(about, await unpack('voxels')), state = new State(volumes);
  const slices = [...root.querySelectorAll('canvas[data-plane]')].map((canvas) => new Slice(canvas, volumes, state));
  const values = root.querySelector('.values'), pins = [...root.querySelectorAll('.pin')];
  const space = { view: null };
  const choose = (k, go = true) => {
    const region = k === state.region ? 0 : k, patch = { region };
    if (region && go) Object.assign(patch, { at: [...volumes.regions[region - 1].centre], hover: null });
    state.change(patch);
  };
  pins.forEach((pin, i) => pin.addEventListener('click', () => choose(i + 1)));
  controls(root, state, space);
  let last = '';
  state.views.push(() => {
    // a pointer that only passes by changes the values, not the pictures
    const key = JSON.stringify([state.at, state.elements, state.region]);
    if (key !== last) for (const slice of slices) slice.draw();
    last = key;
    values.replaceChildren(tell(volumes, state.hover || state.at));
    pins.forEach((pin, i) => pin.setAttribute('aria-pressed', String(i + 1 === state.region)));
    const chosen = root.querySelector('.chosen');
    if (chosen) chosen.textContent = state.region ? volumes.regions[state.region - 1].sentence : '';
  });
  state.change({});
  root.classList.add('ready');
  when(root.querySelector('.stage'), () => { space.view = third(root, volumes, state, choose, pins); });
  return (k) => { if (state.region !== k) choose(k); };
}

/** The view in three dimensions, drawn once; null where the browser has no WebGL2. */
function third(root, volumes, state, choose, pins) {
  let view;
  try {
    view = new View3D(root.querySelector('canvas.rays'), volumes, state);
  } catch {
    root.querySelector('.space').hidden = true;
    root.querySelector('.flat').hidden = false;
    return null;
  }
  if (root.querySelector('[name=side]')?.checked) view.sets = ['result', 'truth'];
  let seen = '';
  state.views.push(() => {
    const key = JSON.stringify([state.elements, state.clip, state.region, view.sets]);
    if (key !== seen) view.ask();
    seen = key;
  });
  view.choose = choose;
  const over = root.querySelector('canvas.over');
  view.drawn = () => {
    frame(over, view, volumes);
    pins.forEach((pin, i) => {
      const [u, v] = view.place(volumes.regions[i].centre);
      pin.style.left = `${100 * u}%`;
      pin.style.top = `${100 * v}%`;
    });
    root.dataset.drawn = 'yes';
  };
  // what WebGL drew last is not sure to be on paper, nor at the size that the paper has; a plain canvas is
  for (const [event, printing] of [['beforeprint', true], ['afterprint', false]]) {
    window.addEventListener(event, () => {
      view.printing = printing;
      view.draw(1);
    });
  }
  view.draw(0.02);  // a first picture, which also tells what the machine can do
  state.change({});
  performance.mark('drawn in three dimensions');
  return view;
}

/** Call once `what` is nearly in view, or when the page is printed. */
function when(what, act) {
  const go = () => {
    watch.disconnect();
    window.removeEventListener('beforeprint', go);
    act();
  };
  const watch = new IntersectionObserver((seen) => { if (seen.some((s) => s.isIntersecting)) go(); }, { rootMargin: '200px' });
  window.addEventListener('beforeprint', go);
  watch.observe(what);
}

/** Volumes take their time to unpack and draw: that begins when a reader comes near, or asks for a place. */
function start(root) {
  let built = null;
  const failed = (error) => {
    const said = root.querySelector('.failed');
    said.hidden = false;
    said.textContent += ` (${error.message})`;
  };
  const need = () => (built ??= build(root));
  when(root, () => need().catch(failed));
  for (const link of document.querySelectorAll('[data-region]')) {
    link.addEventListener('click', () => {
      root.scrollIntoView({ block: 'start' });
      need().then((show) => show(+link.dataset.region), failed);
    });
  }
}

if (document.getElementById('viewer')) start(document.getElementById('viewer'));
document.documentElement.dataset.ready = String(Math.round(performance.now()));
performance.mark('ready');
