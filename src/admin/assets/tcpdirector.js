// Keeps the page fresh without taking anything from whoever uses it. The parts of class "live" are exchanged in place; forms that
// are typed in stand outside of them. When the services, groups or users themselves have changed, the whole page is exchanged,
// but never under the hands of somebody who types. Without this script the page works the same, and is refreshed by hand.
'use strict';
(() => {
  const main = document.getElementById('main');
  const pause = document.getElementById('pause');
  if (!main || !main.dataset.shape || !pause) return;
  const every = 1000 * (Number(main.dataset.every) || 5);
  let paused = main.dataset.every === '0';
  let failed = false;

  const say = (text) => { document.getElementById('spoken').textContent = text; };
  const tell = (text) => { document.getElementById('fresh').textContent = text; };

  const isTyping = () => {
    const active = document.activeElement;
    if (active && active.matches('main input, main select')) return true;
    const touched = (field) => field.matches('select')
      ? [...field.options].some((option, i) => option.selected !== (option.defaultSelected
        || (i === 0 && ![...field.options].some((other) => other.defaultSelected))))
      : field.value !== field.defaultValue;
    return [...main.querySelectorAll('input:not([type=hidden]), select')].some(touched);
  };

  // what stays the same of an element that is replaced by its like
  const name = (element) => element && (element.getAttribute('aria-label') || element.textContent).trim();
  const summaries = (part) => [...part.querySelectorAll('summary')];
  const again = (part, tag, wanted) => [...part.querySelectorAll(tag)].find((element) => name(element) === wanted);

  const exchange = (old, fresh) => {
    if (old.innerHTML === fresh.innerHTML && old.className === fresh.className) return;
    const active = old.contains(document.activeElement) ? document.activeElement : null;
    const [tag, wanted] = active ? [active.localName, name(active)] : [];
    const open = summaries(old).filter((summary) => summary.parentElement.open).map(name);
    old.className = fresh.className;
    old.replaceChildren(...fresh.childNodes);
    for (const summary of summaries(old)) if (open.includes(name(summary))) summary.parentElement.open = true;
    if (active) {
      const back = again(old, tag, wanted) || old;
      if (back === old) old.tabIndex = -1;
      back.focus({ preventScroll: true });
    }
  };

  const adopt = (page) => {
    const fresh = page.getElementById('main');
    if (!fresh || !fresh.dataset.shape) throw new Error('another page came');
    const before = main.querySelector('h1').textContent;
    if (fresh.dataset.shape === main.dataset.shape) {
      for (const part of fresh.querySelectorAll('.live')) {
        const old = document.getElementById(part.id);
        if (old) exchange(old, part);
      }
    } else if (isTyping()) {
      tell('The services, groups or users have changed: refresh to see them.');
      return;
    } else {
      fresh.querySelector('#pause').replaceWith(pause);
      const message = document.getElementById('message');
      if (message) fresh.querySelector('#state').after(message);
      exchange(main, fresh);
      main.dataset.shape = fresh.dataset.shape;
    }
    document.title = page.title;
    const now = main.querySelector('h1').textContent;
    if (now !== before) say(now);
    tell('Live, as of ' + new Date().toLocaleTimeString());
  };

  const refresh = async () => {
    if (paused || document.hidden) return;
    try {
      const options = { headers: { Accept: 'text/html' }, cache: 'no-store', signal: AbortSignal.timeout(every + 5000) };
      const answer = await fetch(main.dataset.from, options);
      if (!answer.ok) throw new Error('status ' + answer.status);
      const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
      if (paused) return;
      adopt(page);
      main.classList.remove('stale');
      failed = false;
    } catch (error) {
      main.classList.add('stale');
      tell('No answer: what you see is old.');
      if (!failed) say('No answer: what you see is old.');
      failed = true;
    }
  };

  const loop = async () => {
    await refresh();
    setTimeout(loop, every);
  };

  // a live region that is there from the start is not read out
  const message = document.getElementById('message');
  if (message) setTimeout(() => say(message.textContent), 300);
  pause.hidden = false;
  const tellPause = () => {
    pause.textContent = paused ? 'Go on' : 'Pause';
    if (paused) tell('Paused');
  };
  tellPause();
  pause.addEventListener('click', () => {
    paused = !paused;
    tellPause();
    if (!paused) refresh();
  });
  document.addEventListener('visibilitychange', refresh);
  setTimeout(loop, every);
})();
