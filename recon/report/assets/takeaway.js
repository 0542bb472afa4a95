'use strict';
// Figures and tables leave the page as files; nothing is fetched for it.

function save(name, blob) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

const INCH = 25.4, DPI = 300;

/** A PNG of an image or a canvas, so many millimetres wide at 300 dots an inch. */
async function png(source, name, mm) {
  if (source.decode) {  // one that is drawn only when it is scrolled to
    source.loading = 'eager';
    await source.decode();
  }
  const wide = source.naturalWidth || source.width, high = source.naturalHeight || source.height;
  const width = mm ? Math.round(mm / INCH * DPI) : wide;
  const canvas = Object.assign(document.createElement('canvas'), { width, height: Math.round(width * high / wide) });
  const pen = canvas.getContext('2d');
  pen.imageSmoothingEnabled = !(source instanceof HTMLCanvasElement);
  pen.drawImage(source, 0, 0, canvas.width, canvas.height);
  save(`${name}.png`, await new Promise((done) => canvas.toBlob(done)));
}

for (const bar of document.querySelectorAll('.take')) {
  bar.addEventListener('click', (event) => {
    const button = event.target.closest('button'), holder = bar.previousElementSibling;
    if (!button) return;
    const name = bar.dataset.name;
    if (button.dataset.kind === 'csv') {
      const lines = [...holder.querySelectorAll('tr')].map((row) => [...row.cells]
        .map((cell) => `"${cell.textContent.trim().replace(/\u2212/g, '-').replaceAll('"', '""')}"`).join(','));
      save(`${name}.csv`, new Blob([`${lines.join('\r\n')}\r\n`], { type: 'text/csv' }));
      return;
    }
    const image = holder.querySelector('img');
    if (button.dataset.kind === 'svg') {
      const bytes = Uint8Array.from(atob(image.src.slice(image.src.indexOf(',') + 1)), (c) => c.charCodeAt(0));
      const drawn = new DOMParser().parseFromString(new TextDecoder().decode(bytes), 'image/svg+xml');
      const root = drawn.documentElement, mm = +button.dataset.mm;
      root.setAttribute('width', `${mm}mm`);
      root.setAttribute('height', `${mm * root.viewBox.baseVal.height / root.viewBox.baseVal.width}mm`);
      save(`${name}.svg`, new Blob([new XMLSerializer().serializeToString(drawn)], { type: 'image/svg+xml' }));
      return;
    }
    png(image, name, +button.dataset.mm);
  });
}
for (const button of document.querySelectorAll('[data-copy]')) {
  button.addEventListener('click', () => save(button.dataset.name,
    new Blob([document.getElementById(button.dataset.copy).textContent], { type: 'text/plain' })));
}
// what is folded away is printed all the same
window.addEventListener('beforeprint', () => {
  for (const part of document.querySelectorAll('details')) part.open = true;
  for (const image of document.images) image.loading = 'eager';
});
