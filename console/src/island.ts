// What the islands share: their data, the page's colours, and how numbers and times are written.
const NARROW_SPACE = "\u202f";

/** Calls `start` for each element marked `data-NAME`, with the content of the JSON element of that id. */
export function islands<T>(
  name: string,
  start: (place: HTMLElement, data: T) => ((data: T) => void) | void,
): void {
  for (const place of document.querySelectorAll<HTMLElement>(`[data-${name}]`)) {
    const source = () => document.getElementById(place.dataset[name] ?? "")?.textContent ?? "";
    let text = source();
    if (text === "") continue;
    const renew = start(place, JSON.parse(text) as T);
    // The JSON may be in a part of the page that is updated.
    document.addEventListener("fresh", () => {
      if (!renew || text === source()) return;
      text = source();
      renew(JSON.parse(text) as T);
    });
  }
}

/** Returns a colour of style/tokens.css as it is now, light or dark. */
export function colour(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

export function onSchemeChange(act: () => void): void {
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", act);
}

export function pageZone(): string {
  return document.body.dataset["zone"] ?? "UTC";
}

// Each variety of English knows the abbreviations of its own zones; for others it writes GMT+11.
const LOCALES = ["en-AU", "en-GB", "en-US", "en-NZ", "en-IN", "en-ZA"];

/** Returns `AEDT`; `UTC+3` where a zone has no abbreviation. */
function zoneName(at: number, zone: string): string {
  let name = "UTC";
  for (const locale of LOCALES) {
    const parts = new Intl.DateTimeFormat(locale, { timeZone: zone, timeZoneName: "short" }).formatToParts(at);
    name = parts.find((part) => part.type === "timeZoneName")?.value ?? name;
    if (!/\d/.test(name)) return name;
  }
  return name.replace("GMT", "UTC").replace("-", "−");
}

/** Returns `03:12 AEST`, or with more fields if `wanted` asks for them. */
export function timeText(at: number, wanted: Intl.DateTimeFormatOptions = {}): string {
  const zone = pageZone();
  const format = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", ...wanted, timeZone: zone });
  return `${format.format(at)} ${zoneName(at, zone)}`;
}

/** Writes a number as the server does: a narrow space between thousands, a true minus. */
export function number(value: number, decimals = 0): string {
  return value
    .toLocaleString("en-GB", { minimumFractionDigits: decimals, maximumFractionDigits: decimals })
    .replaceAll(",", NARROW_SPACE)
    .replace("-", "−");
}

/** Creates an element with a class and children: text stays text, whatever a device calls itself. */
export function element<K extends keyof HTMLElementTagNameMap>(
  tag: K, className: string, ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const created = document.createElement(tag);
  created.className = className;
  created.append(...children);
  return created;
}
