// Brings parts of a page up to date: the server sends them as HTML, each for the element that is
// marked data-live with its name. What a person does meanwhile stays: focus, scrolling, open details.
import { pageZone, timeText } from "./island";

const QUIET_MS_MAX = 45_000;

export function follow(topic: string): void {
  const state = document.querySelector<HTMLElement>("[data-live-state]");
  const zone = pageZone();
  const address = `/console/live?of=${encodeURIComponent(topic)}&zone=${encodeURIComponent(zone)}`;
  let source: EventSource | null = null;
  let heardAt = Date.now();
  let isLive: boolean | null = null;

  function say(live: boolean): void {
    if (state === null || live === isLive) return;
    isLive = live;
    state.classList.toggle("is-live", live);
    state.classList.toggle("is-stale", !live);
    state.textContent = live ? "live" : `not live since ${timeText(heardAt)}`;
  }

  function open(): void {
    source?.close();
    source = new EventSource(address);
    source.onopen = heard;
    source.onerror = () => say(false);
    source.addEventListener("beat", heard);
    source.addEventListener("part", (event: MessageEvent<string>) => {
      heard();
      const { name, html } = JSON.parse(event.data) as { name: string; html: string };
      swap(name, html);
    });
  }

  function heard(): void {
    heardAt = Date.now();
    say(true);
  }

  // A stream that a proxy has forgotten is open and silent. One that was refused stays closed.
  setInterval(() => {
    if (document.hidden) return;
    if (Date.now() - heardAt > QUIET_MS_MAX) {
      say(false);
      open();
    }
  }, QUIET_MS_MAX / 3);
  open();
}

/** Puts `html` into the element called `name`, in place of what differs from it. */
export function swap(name: string, html: string): void {
  const place = document.querySelector<HTMLElement>(`[data-live="${CSS.escape(name)}"]`);
  if (place === null) return;
  const fresh = document.createElement("template");
  fresh.innerHTML = html;
  morph(place, fresh.content);
  place.dispatchEvent(new CustomEvent("fresh", { bubbles: true }));
}

function morph(old: Node, fresh: Node): void {
  const [before, after] = [[...old.childNodes], [...fresh.childNodes]];
  for (let i = 0; i < Math.max(before.length, after.length); i++) {
    const [was, is] = [before[i], after[i]];
    if (is === undefined) was?.remove();
    else if (was === undefined) old.appendChild(is);
    else if (!alike(was, is)) old.replaceChild(is, was);
    else if (was instanceof Element && is instanceof Element) {
      if (was.hasAttribute("data-kept")) continue;
      attributes(was, is);
      morph(was, is);
    } else if (was.nodeValue !== is.nodeValue) was.nodeValue = is.nodeValue;
  }
}

function alike(was: Node, is: Node): boolean {
  if (was.nodeName !== is.nodeName) return false;
  return !(was instanceof Element && is instanceof Element) || was.id === is.id;
}

function attributes(was: Element, is: Element): void {
  for (const { name } of [...was.attributes]) {
    // What a person has opened, or is typing, is theirs.
    if (!is.hasAttribute(name) && !(name === "open" && was.nodeName === "DETAILS")) was.removeAttribute(name);
  }
  for (const { name, value } of is.attributes) {
    if (was.getAttribute(name) !== value) was.setAttribute(name, value);
  }
}
