'use strict';
// The alignment's flip book: one sheet of maps, a window on it, a slider.
for (const book of document.querySelectorAll('.flip')) {
  const tilts = JSON.parse(book.dataset.tilts), slide = book.querySelector('input');
  const play = book.querySelector('button'), text = book.querySelector('output');
  const sheet = book.querySelector('img'), mark = book.querySelector('b');
  let timer = null;
  const show = () => {
    const k = +slide.value, t = tilts[k];
    sheet.style.transform = `translateY(${-100 * k / tilts.length}%)`;
    mark.style.left = `${t.left}%`;
    mark.style.top = `${t.top}%`;
    text.textContent = t.text;
  };
  slide.addEventListener('input', show);
  play.addEventListener('click', () => {
    if (timer) {
      clearInterval(timer);
      timer = null;
      play.textContent = 'play';
      return;
    }
    timer = setInterval(() => { slide.value = (+slide.value + 1) % tilts.length; show(); }, 350);
    play.textContent = 'stop';
  });
  show();
}
