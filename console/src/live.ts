// Keeps parts of a page up to date: the server sends them as HTML, each for the element that is marked
// data-live with its name. What a person does meanwhile is kept: focus, scrolling, open details.
import { pageZone, timeText } from "./island";

const QUIET_MS_MAX = 45_000;

export function follow(topic: string): void {
  const state = document.querySelector<HTMLElement>("[data-live-state]");
  const zone = pageZone();
  const address = `/console/live?of=${encodeURIComponent(topic)}&zone=${encodeURIComponent(zone)}`;
  let source: EventSource | null = null;
  let heardAt = Date.now();
  let isLive: boolean | null = null;

  function showState(live: boolean): void {
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
    source.onerror = () => showState(false);
    source.addEventListener("beat", heard);
    source.addEventListener("part", (event: MessageEvent<string>) => {
      heard();
      const { name, html } = JSON.parse(event.data) as { name: string; html: string };
      swap(name, html);
    });
  }

  function heard(): void {
    heardAt = Date.now();
    showState(true);
  }

  // A stream that a proxy has dropped is open and silent; one that was refused stays closed.
  setInterval(() => {
    if (document.hidden) return;
    if (Date.now() - heardAt > QUIET_MS_MAX) {
      showState(false);
      open();
    }
  }, QUIET_MS_MAX / 3);
  open();
}

/** Changes the element called `name` to `html`, and leaves what is equal as it is. */
export function swap(name: string, html: string): void {
  const place = document.querySelector<HTMLElement>(`[data-live="${CSS.escape(name)}"]`);
  if (place === null) return;
  const fresh = document.createElement("template");
  fresh.innerHTML = html;
  morph(place, fresh.content);
  place.dispatchEvent(new CustomEvent("fresh", { bubbles: true }));
}

// A node with an id or a data-key is recognised wherever it has moved to; the rest is matched in order.
function morph(old: Node, fresh: Node): void {
  const keyed = new Map([...old.childNodes].flatMap((each) => (keyOf(each) ? [[keyOf(each), each] as const] : [])));
  const kept = new Set<Node>();
  let at = old.firstChild;
  for (const is of [...fresh.childNodes]) {
    const key = keyOf(is);
    const was = key ? keyed.get(key) : at && !keyOf(at) ? at : undefined;
    if (!was || was.nodeName !== is.nodeName) {
      old.insertBefore(is, at);
      kept.add(is);
      continue;
    }
    // A node that is moved loses the focus, so it stays in place where it can.
    if (was === at) at = at.nextSibling;
    else old.insertBefore(was, at);
    kept.add(was);
    if (was instanceof Element && is instanceof Element) {
      if (was.hasAttribute("data-kept")) continue;
      attributes(was, is);
      morph(was, is);
    } else if (was.nodeValue !== is.nodeValue) was.nodeValue = is.nodeValue;
  }
  for (const each of [...old.childNodes]) if (!kept.has(each)) each.remove();
}

function keyOf(node: Node): string | undefined {
  return node instanceof HTMLElement ? node.id || node.dataset["key"] : undefined;
}

function attributes(was: Element, is: Element): void {
  for (const { name } of [...was.attributes]) {
    // What a person has opened or is typing is kept.
    if (!is.hasAttribute(name) && !(name === "open" && was.nodeName === "DETAILS")) was.removeAttribute(name);
  }
  for (const { name, value } of is.attributes) {
    if (was.getAttribute(name) !== value) was.setAttribute(name, value);
  }
}
