// Making a form: it is tried as a person types, and a click on a value puts its path into the line in
// which the cursor is.
import { element } from "./island";
import { swap } from "./live";

const PAUSE_MS = 400;
const PLAIN_NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;
const QUOTED = /"(?:[^"\\]|\\.)*"|'[^']*'/g;
const ADDRESS = "/console/make-form/try";

type Step = string | number;

const form = document.querySelector<HTMLFormElement>("[data-make-form]");
const source = form?.querySelector<HTMLTextAreaElement>("[data-source]");
if (form && source) edit(form, source);

function edit(form: HTMLFormElement, source: HTMLTextAreaElement): void {
  const status = form.querySelector<HTMLElement>("[data-status]");
  let pause: number | undefined;
  let latest: AbortController | undefined;

  const say = (words: string) => {
    if (status) status.textContent = words;
  };

  async function tryIt(): Promise<void> {
    latest?.abort();
    const mine = (latest = new AbortController());
    say("trying…");
    try {
      const body = new URLSearchParams();
      for (const [name, value] of new FormData(form)) if (typeof value === "string") body.append(name, value);
      const reply = await fetch(ADDRESS, { method: "POST", body, signal: mine.signal });
      const html = await reply.text();
      if (mine.signal.aborted) return;
      if (reply.ok) swap("make-form", html);
      say(reply.ok ? "tried" : reasonIn(html));
    } catch {
      if (!mine.signal.aborted) say("not tried: the service does not answer");
    }
  }

  source.addEventListener("input", () => {
    clearTimeout(pause);
    pause = setTimeout(() => void tryIt(), PAUSE_MS);
  });
  const hint = form.querySelector<HTMLElement>("[data-hint]");
  if (hint) hint.hidden = false;
  for (const value of form.querySelectorAll<HTMLElement>("[data-steps]")) {
    const button = element("button", "value", value.textContent ?? "");
    button.type = "button";
    button.addEventListener("click", () => put(source, JSON.parse(value.dataset["steps"] ?? "[]") as Step[]));
    value.replaceWith(button);
  }
}

/** Returns what a page that says what is wrong says. */
function reasonIn(html: string): string {
  const page = new DOMParser().parseFromString(html, "text/html");
  return `not tried: ${page.querySelector("main p")?.textContent?.trim() ?? "load the page again"}`;
}

/** Puts the path of a value into the line of the cursor: into its path if it has one, else at its end. */
function put(source: HTMLTextAreaElement, steps: Step[]): void {
  const text = source.value;
  const start = text.lastIndexOf("\n", source.selectionStart - 1) + 1;
  const next = text.indexOf("\n", source.selectionStart);
  const end = next < 0 ? text.length : next;
  const line = text.slice(start, end);
  const cursor = source.selectionStart - start;
  const path = inToml(pathFrom(listsAt(text, start), steps));
  const equals = line.indexOf("=");
  const quoted = [...line.matchAll(QUOTED)].filter((each) => each.index > equals);
  const chosen = quoted.find((each) => each.index <= cursor && cursor <= each.index + each[0].length) ?? quoted[0];
  source.focus();
  if (equals >= 0 && chosen) source.setSelectionRange(start + chosen.index, start + chosen.index + chosen[0].length);
  else if (equals >= 0) source.setSelectionRange(start + equals + 1, end);
  else source.setSelectionRange(source.selectionStart, source.selectionEnd);
  const isBare = equals >= 0 && !chosen;
  insert(source, isBare ? ` ${path}` : path);
}

/** Inserts text as if it were typed, so that it can be undone. */
function insert(source: HTMLTextAreaElement, text: string): void {
  if (document.execCommand("insertText", false, text)) return;
  source.setRangeText(text, source.selectionStart, source.selectionEnd, "end");
  source.dispatchEvent(new Event("input"));
}

/** Returns the plain paths of `each` in the record that a position is in. */
function listsAt(text: string, position: number): Step[][] {
  const sections = [...text.matchAll(/^[ \t]*\[{1,2}[^\]\n]*\]{1,2}/gm)];
  const above = sections.filter((each) => each.index <= position);
  const here = above.at(-1)?.[0].trim() ?? "";
  if (!here.startsWith("[[record]]") && !here.startsWith("[record.")) return [];
  const opening = above.findLast((each) => each[0].trim().startsWith("[[record]]"));
  if (!opening) return [];
  const closing = sections.find((each) => each.index > opening.index);
  const section = text.slice(opening.index, closing?.index ?? text.length);
  const each = /^[ \t]*each[ \t]*=[ \t]*(.*)$/m.exec(section)?.[1] ?? "";
  return [...each.matchAll(QUOTED)].map((path) => stepsOf(unquoted(path[0])));
}

/** Returns the path as it is seen from an item of these lists. */
function pathFrom(lists: Step[][], steps: Step[]): string {
  let [rest, levels] = [steps, 0];
  for (const list of lists) {
    if (rest.length <= list.length || !list.every((step, at) => rest[at] === step)) break;
    rest = rest.slice(list.length + 1);
    levels += 1;
  }
  const up = "parent.".repeat(lists.length - levels);
  const down = rest.map((step, at) => (typeof step === "number" ? `[${step}]` : `${at ? "." : ""}${named(step)}`)).join("");
  return `${up}${down}` || "@";
}

function stepsOf(path: string): Step[] {
  const found = path.matchAll(/([A-Za-z_]\w*|"(?:[^"\\]|\\.)*")|\[(-?\d+)\]/g);
  return [...found].map(([, name, index]) =>
    name === undefined ? Number(index) : name.startsWith('"') ? (JSON.parse(name) as string) : name,
  );
}

function named(key: string): string {
  return PLAIN_NAME.test(key) ? key : JSON.stringify(key);
}

function inToml(path: string): string {
  return path.includes('"') && !path.includes("'") && !path.includes("\\") ? `'${path}'` : JSON.stringify(path);
}

function unquoted(text: string): string {
  return text.startsWith("'") ? text.slice(1, -1) : (JSON.parse(text) as string);
}
