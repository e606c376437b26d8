// A clip to look at and to listen to: its spectrogram in kHz, its waveform, the time in the page's zone,
// and marks where calls were detected. The button, the space bar or a click on a position plays it.
import WaveSurfer from "wavesurfer.js";
import Spectrogram from "wavesurfer.js/dist/plugins/spectrogram.js";
import "../style/clip.css";
import { colour, element, number, onSchemeChange, timeText } from "./island";

/** A call in the clip: its span in seconds from the start. */
type Mark = { from_seconds: number; to_seconds: number; species: string; href: string; is_this: boolean };

const HEIGHT = 260;
const WAVE_HEIGHT = 72;
const SAMPLE_RATES = [3_000, 768_000] as const;
/** Most calls of birds and frogs lie below it; with ultrasound, everything is shown. */
const AUDIBLE_HZ = 12_000;
const ULTRASOUND_FROM_HZ = 60_000;
const STEP_SECONDS = 0.5;

for (const place of document.querySelectorAll<HTMLElement>("figure[data-clip]")) void open(place);

async function open(place: HTMLElement): Promise<void> {
  const ground = place.querySelector<HTMLElement>("[data-clip-picture]");
  const media = place.querySelector("audio");
  if (ground === null || media === null) return;
  const sampleRateHz = Number(place.dataset["sampleRateHz"]);
  const startsAtMs = place.dataset["startsAtMs"];
  const marks = JSON.parse(place.querySelector("script")?.textContent || "[]") as Mark[];
  const top = sampleRateHz / 2;
  let bytes: Blob;
  try {
    const reply = await fetch(place.dataset["clip"] ?? "");
    if (!reply.ok) throw new Error(reply.status === 401 ? "log in again" : `the service answered ${reply.status}`);
    bytes = await reply.blob();
  } catch (error) {
    return say(ground, `The clip could not be loaded: ${error instanceof Error ? error.message : error}.`);
  }

  const waves = element("div", "clip-waves");
  const picture = element("div", "clip-spectrum");
  const view = element("div", "clip-view", picture, waves);
  const hertz = element("div", "clip-hertz");
  const times = element("div", "clip-times");
  const reach = reachOf(top);
  // Marks stand beside the slider and not within it: a mark may be a link.
  const stage = element("div", "clip-stage", view);
  const drawn = element("div", "clip-drawn", hertz, stage, times);
  const head = element("div", "clip-head");

  // Given a player that has a file, WaveSurfer would load that file once more.
  const player = element("audio", "");
  player.controls = true;
  ground.replaceChildren(drawn, ...(reach ? [reach] : []));
  const wave = WaveSurfer.create({
    container: waves, media: player, height: WAVE_HEIGHT, normalize: true, cursorWidth: 0, dragToSeek: true,
    hideScrollbar: true, cspNonce: document.body.dataset["nonce"] ?? "", ...inks(),
    // Decoded at less than its own rate, a clip would lose its upper frequencies.
    sampleRate: Math.min(Math.max(sampleRateHz, SAMPLE_RATES[0]), SAMPLE_RATES[1]),
  });
  try {
    await wave.loadBlob(bytes);
  } catch {
    wave.destroy();
    return say(ground, "This browser cannot decode the clip. Download it to listen to it.");
  }
  media.replaceWith(player);
  const seconds = wave.getDuration();
  times.replaceChildren(...ticks(seconds, (each) => clock(startsAtMs, each)));
  view.append(head);
  stage.append(...marks.map((mark) => marked(mark, seconds)));
  const names = [...stage.querySelectorAll<HTMLElement>(".clip-mark > *")]
    .sort((a, b) => Number(b.matches(".is-this > *")) - Number(a.matches(".is-this > *")));
  new ResizeObserver(() => [names, [...times.children] as HTMLElement[]].forEach(thin)).observe(stage);

  let spectrogram: Spectrogram | null = null;
  const draw = () => {
    const until = reach ? Number(reach.querySelector("select")?.value) : top;
    spectrogram?.destroy();
    picture.replaceChildren();
    spectrogram = wave.registerPlugin(Spectrogram.create({
      container: picture, height: HEIGHT, labels: false, scale: "linear", frequencyMin: 0, frequencyMax: until,
      fftSamples: sampleRateHz > 64_000 ? 2048 : sampleRateHz > 20_000 ? 1024 : 512,
      windowFunc: "hann", autoGain: true, rangeDB: 70, colorMap: shades(), splitChannels: false,
    }));
    hertz.replaceChildren(...ticks(until, (each) => number(each / 1000, each % 1000 ? 1 : 0), 0.93));
    hertz.append(element("span", "clip-unit", "kHz"));
  };
  draw();
  wave.on("timeupdate", showPosition);
  showPosition();

  function showPosition(): void {
    const now = wave.getCurrentTime();
    head.style.left = `${(now / seconds) * 100}%`;
    view.setAttribute("aria-valuenow", now.toFixed(1));
    view.setAttribute("aria-valuemax", seconds.toFixed(1));
    view.setAttribute("aria-valuetext", `${number(now, 1)} seconds of ${number(seconds, 1)}`);
  }

  for (const [name, value] of [["role", "slider"], ["aria-label", "Position in the clip"], ["aria-valuemin", "0"]] as const)
    view.setAttribute(name, value);
  view.tabIndex = 0;
  picture.addEventListener("click", (event) => {
    const box = picture.getBoundingClientRect();
    wave.seekTo(Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)));
  });
  view.addEventListener("keydown", (event) => {
    if (event.key === " ") void wave.playPause();
    else if (event.key === "ArrowLeft") wave.skip(-STEP_SECONDS);
    else if (event.key === "ArrowRight") wave.skip(STEP_SECONDS);
    else if (event.key === "Home") wave.setTime(0);
    else if (event.key === "End") wave.setTime(wave.getDuration());
    else return;
    event.preventDefault();
  });
  reach?.addEventListener("change", draw);
  onSchemeChange(() => {
    wave.setOptions(inks());
    draw();
  });
}

/** Hides labels that would cover an earlier one or stick out: the list below has them all. */
function thin(labels: HTMLElement[]): void {
  const taken: DOMRect[] = [];
  for (const label of labels) {
    label.style.display = "";
    const [box, room] = [label.getBoundingClientRect(), label.closest(".clip-drawn")?.getBoundingClientRect()];
    const isFree = box.right <= (room?.right ?? Infinity) && taken.every((each) => box.right < each.left || each.right < box.left);
    if (isFree) taken.push(box);
    else label.style.display = "none";
  }
}

/** Shows words in place of the picture; the player and the download stay. */
function say(ground: HTMLElement, words: string): void {
  const message = element("p", "clip-problem", words);
  message.setAttribute("role", "status");
  ground.replaceChildren(message);
}

function reachOf(top: number): HTMLLabelElement | null {
  if (top <= AUDIBLE_HZ) return null;
  const select = element("select", "");
  const choices = [4_000, 8_000, AUDIBLE_HZ, 24_000, 48_000].filter((each) => each < top);
  for (const each of [...choices, top]) {
    const option = element("option", "", `${number(each / 1000, each % 1000 ? 1 : 0)} kHz`);
    option.value = String(each);
    option.selected = each === (top < ULTRASOUND_FROM_HZ ? AUDIBLE_HZ : top);
    select.append(option);
  }
  return element("label", "clip-reach", "up to ", select);
}

function marked(mark: Mark, seconds: number): HTMLElement {
  const [from, until] = [Math.max(0, mark.from_seconds), Math.min(seconds, mark.to_seconds)];
  const label = element(mark.is_this ? "span" : "a", "", mark.species);
  if (label instanceof HTMLAnchorElement) label.href = mark.href;
  const box = element("div", mark.is_this ? "clip-mark is-this" : "clip-mark", label);
  box.style.left = `${(from / seconds) * 100}%`;
  box.style.width = `${(Math.max(0, until - from) / seconds) * 100}%`;
  return box;
}

/** Makes five to ten ticks at round values. */
function ticks(top: number, text: (at: number) => string, until = 0.999): HTMLElement[] {
  const rough = top / 7;
  const scale = 10 ** Math.floor(Math.log10(rough));
  const step = scale * ([1, 2, 5, 10].find((each) => each * scale >= rough) ?? 10);
  const list = [];
  for (let index = 0; index * step <= top * until; index++) {
    const tick = element("span", "", text(index * step));
    tick.style.setProperty("--at", `${((index * step) / top) * 100}%`);
    list.push(tick);
  }
  return list;
}

/** Writes seconds; the first tick has the time at which the clip begins, where that is known. */
function clock(startsAtMs: string | undefined, at: number): string {
  if (at > 0 || startsAtMs === undefined) return `${number(at, at % 1 ? 1 : 0)} s`;
  return timeText(Number(startsAtMs), { second: "2-digit" });
}

function inks(): { waveColor: string; progressColor: string } {
  return { waveColor: colour("heat-3"), progressColor: colour("accent") };
}

/** Makes shades from the page's background for silence, by the accent, to its ink for loud sound. */
function shades(): number[][] {
  const stops = ["paper", "heat-2", "accent", "ink"].map((name) => rgb(colour(name)));
  return Array.from({ length: 256 }, (_, index) => {
    const place = ((index / 255) ** 1.8) * (stops.length - 1);
    const [low, part] = [Math.min(Math.floor(place), stops.length - 2), place % 1 || (index === 255 ? 1 : 0)];
    const [before, after] = [stops[low] ?? [0, 0, 0], stops[low + 1] ?? [0, 0, 0]];
    return [...before.map((value, channel) => value + ((after[channel] ?? 0) - value) * part), 1];
  });
}

function rgb(hex: string): number[] {
  return [1, 3, 5].map((start) => parseInt(hex.slice(start, start + 2), 16) / 255);
}
