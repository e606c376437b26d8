// What the islands share: their data, the page's colours, and words for numbers.
const NARROW_SPACE = "\u202f";

/** Calls `start` for each element marked `data-NAME`, with what the JSON element of that id holds. */
export function islands<T>(
  name: string,
  start: (place: HTMLElement, data: T) => ((data: T) => void) | void,
): void {
  for (const place of document.querySelectorAll<HTMLElement>(`[data-${name}]`)) {
    const source = () => document.getElementById(place.dataset[name] ?? "")?.textContent ?? "";
    let text = source();
    if (text === "") continue;
    const renew = start(place, JSON.parse(text) as T);
    // The JSON may stand in a part of the page that is brought up to date.
    document.addEventListener("fresh", () => {
      if (!renew || text === source()) return;
      text = source();
      renew(JSON.parse(text) as T);
    });
  }
}

/** A colour of style/tokens.css as it is now, light or dark. */
export function colour(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

export function onSchemeChange(act: () => void): void {
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", act);
}

export function pageZone(): string {
  return document.body.dataset["zone"] ?? "UTC";
}

// Each English knows the letters of its own zones; elsewhere it says GMT+11.
const ENGLISHES = ["en-AU", "en-GB", "en-US", "en-NZ", "en-IN", "en-ZA"];

/** `AEDT`; `UTC+3` where a zone has no letters of its own. */
function zoneName(at: number, zone: string): string {
  let name = "UTC";
  for (const english of ENGLISHES) {
    const parts = new Intl.DateTimeFormat(english, { timeZone: zone, timeZoneName: "short" }).formatToParts(at);
    name = parts.find((part) => part.type === "timeZoneName")?.value ?? name;
    if (!/\d/.test(name)) return name;
  }
  return name.replace("GMT", "UTC").replace("-", "−");
}

/** `03:12 AEST`, or with what else `wanted` asks for. */
export function timeText(at: number, wanted: Intl.DateTimeFormatOptions = {}): string {
  const zone = pageZone();
  const format = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", ...wanted, timeZone: zone });
  return `${format.format(at)} ${zoneName(at, zone)}`;
}

/** As the server writes numbers: a narrow space between thousands, a true minus. */
export function number(value: number, decimals = 0): string {
  return value
    .toLocaleString("en-GB", { minimumFractionDigits: decimals, maximumFractionDigits: decimals })
    .replaceAll(",", NARROW_SPACE)
    .replace("-", "−");
}

/** An element with a class and what is in it: text stays text, whatever a device called itself. */
export function element<K extends keyof HTMLElementTagNameMap>(
  tag: K, className: string, ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  made.className = className;
  made.append(...children);
  return made;
}
