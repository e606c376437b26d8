// Series over time: drag to zoom, double-click to show everything. All series on a page share one
// cursor. By keyboard, arrows move, + and − zoom, and 0 shows everything.
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import "../style/series.css";
import { colour, element, islands, number, onSchemeChange, pageZone, timeText } from "./island";

type Line = { label: string; unit: string; decimals?: number; values: (number | null)[]; kind?: "line" | "bars" };
type SeriesData = {
  /** Seconds since 1970. */
  times: number[];
  lines: Line[];
  height?: number;
  /** The span to show, in seconds since 1970, where it is wider than the data. */
  from?: number;
  until?: number;
};

const HEIGHT = 150;
const COLOURS = ["accent", "look", "bad", "quiet"];

islands<SeriesData>("series", (place, data) => {
  let shown = data;
  let plot: uPlot | null = null;
  const whole = element("button", "series-whole", "Show all");
  whole.type = "button";
  whole.hidden = true;
  const legend = element("p", "series-legend");

  const draw = () => {
    const kept = plot && !whole.hidden ? { min: plot.scales["x"]?.min ?? 0, max: plot.scales["x"]?.max ?? 0 } : null;
    plot?.destroy();
    place.replaceChildren(legend);
    plot = new uPlot(optionsOf(shown, place, whole, legend), columnsOf(shown), place);
    if (kept) plot.setScale("x", kept);
    place.append(whole);
    showValues(legend, shown, null);
    place.tabIndex = 0;
    place.setAttribute("role", "group");
    place.setAttribute("aria-label", summary(shown));
  };
  const showAll = () => plot?.setScale("x", spanOf(shown));
  whole.addEventListener("click", showAll);
  place.addEventListener("keydown", (event) => {
    const scale = plot?.scales["x"];
    if (event.target !== place || scale?.min == null || scale.max == null) return;
    const width = scale.max - scale.min;
    const move = { ArrowLeft: [-0.2, -0.2], ArrowRight: [0.2, 0.2], "+": [0.25, -0.25], "-": [-0.5, 0.5] }[event.key];
    if (event.key === "0") showAll();
    else if (move) plot?.setScale("x", { min: scale.min + width * (move[0] ?? 0), max: scale.max + width * (move[1] ?? 0) });
    else return;
    event.preventDefault();
  });
  draw();
  onSchemeChange(draw);
  let width = place.clientWidth;
  new ResizeObserver(() => {
    if (place.clientWidth === width) return;
    width = place.clientWidth;
    plot?.setSize({ width, height: heightOf(shown) });
  }).observe(place);
  return (fresh) => {
    shown = fresh;
    if (whole.hidden && plot && fresh.lines.length === plot.series.length - 1) {
      plot.setData(columnsOf(fresh), false);
      plot.setScale("x", spanOf(fresh));
      place.setAttribute("aria-label", summary(fresh));
    } else draw();
  };
});

function optionsOf(data: SeriesData, place: HTMLElement, whole: HTMLElement, legend: HTMLElement): uPlot.Options {
  const zone = pageZone();
  const axis: uPlot.Axis = {
    stroke: colour("quiet"), grid: { stroke: colour("line"), width: 1 }, ticks: { show: false },
    font: "12px system-ui, sans-serif",
  };
  const units = [...new Set(data.lines.map((line) => line.unit))];
  return {
    width: place.clientWidth,
    height: heightOf(data),
    tzDate: (at) => uPlot.tzDate(new Date(at * 1e3), zone),
    cursor: { sync: { key: "page" }, drag: { x: true, y: false }, focus: { prox: 24 } },
    scales: {
      x: { range: (_, min, max) => (min === max ? [min - 1, max + 1] : [min, max]) },
      ...Object.fromEntries(units.map((unit) => [unit || "count", { range: rangeOf(data, unit) }])),
    },
    legend: { show: false },
    axes: [
      {
        ...axis, space: 64, values: timesOf(zone),
        size: (_, values) => (values?.some((each) => each.includes("\n")) ? 38 : 22),
      },
      ...units.map((unit, index): uPlot.Axis => ({
        ...axis, scale: unit || "count", side: index === 0 ? 3 : 1, size: 64, space: 30,
        values: (_, splits, __, ___, apart) => splits.map((each) => `${short(each, apart)}${unit ? ` ${unit}` : ""}`),
      })),
    ],
    series: [
      {},
      ...data.lines.map((line, index): uPlot.Series => {
        const stroke = colour(COLOURS[index % COLOURS.length] ?? "accent");
        const bars = uPlot.paths.bars;
        return {
          label: line.label, scale: line.unit || "count", stroke, width: line.kind === "bars" ? 0 : 1.5,
          ...(line.kind === "bars" && bars ? { fill: stroke, paths: bars({ size: [0.8, 40] }) } : {}),
          ...(index === 1 ? { dash: [5, 3] } : index === 2 ? { dash: [2, 3] } : {}),
          points: { show: line.kind !== "bars" && line.values.length < 3 },
          spanGaps: false,
        };
      }),
    ],
    hooks: {
      setCursor: [(plot) => showValues(legend, data, plot.cursor.idx == null ? null : plot.data[0][plot.cursor.idx] ?? null)],
      setScale: [(plot, key) => {
        if (key !== "x") return;
        const [scale, all] = [plot.scales["x"], spanOf(data)];
        whole.hidden = scale?.min == null || (scale.min <= all.min && (scale.max ?? 0) >= all.max);
      }],
    },
  };
}

/** Keeps the range so wide that noise below a reading's precision does not look like a change. */
function rangeOf(data: SeriesData, unit: string): uPlot.Scale.Range {
  const decimals = Math.max(...data.lines.filter((line) => line.unit === unit).map((line) => line.decimals ?? 0));
  const least = 5 * 10 ** -decimals;
  return (_, min, max) => {
    if (min == null || max == null) return [0, 1];
    const missing = Math.max(0, least - (max - min)) / 2;
    return uPlot.rangeNum(min - missing, max + missing, 0.1, true);
  };
}

function columnsOf(data: SeriesData): uPlot.AlignedData {
  const { min, max } = spanOf(data);
  const [before, after] = [data.times[0] !== min, data.times.at(-1) !== max];
  const edge = (present: boolean, value: number | null) => (present ? [value] : []);
  return [
    [...(before ? [min] : []), ...data.times, ...(after ? [max] : [])],
    ...data.lines.map((line) => [...edge(before, null), ...line.values, ...edge(after, null)]),
  ] as uPlot.AlignedData;
}

function spanOf(data: SeriesData): { min: number; max: number } {
  const min = Math.min(data.from ?? Infinity, data.times[0] ?? data.from ?? 0);
  return { min, max: Math.max(data.until ?? -Infinity, data.times.at(-1) ?? data.until ?? 1, min + 1) };
}

function heightOf(data: SeriesData): number {
  return data.height ?? HEIGHT;
}

function short(value: number, apart: number): string {
  for (const [scale, letter] of [[1e9, "G"], [1e6, "M"]] as const)
    if (Math.abs(value) >= scale) return `${number(value / scale, apart % scale ? 1 : 0)} ${letter}`;
  return number(value, String(apart).split(".")[1]?.length ?? 0);
}

// The date is shown where a day begins; hours have no zone, since the legend gives it.
function timesOf(zone: string): uPlot.Axis.Values {
  const hours = { hour: "2-digit", minute: "2-digit", timeZone: zone } as const;
  const clock = new Intl.DateTimeFormat("en-GB", hours);
  const seconds = new Intl.DateTimeFormat("en-GB", { ...hours, second: "2-digit" });
  const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", timeZone: zone });
  return (_, splits, __, ___, apart) => {
    let last = "";
    return splits.map((at) => {
      const [date, time] = [day.format(at * 1e3), (apart < 60 ? seconds : clock).format(at * 1e3)];
      const text = apart >= 86_400 ? date : date === last ? time : `${time}\n${date}`;
      last = date;
      return text;
    });
  };
}

/** Shows each line above the graph with its value at the cursor, or else the last known value. */
function showValues(legend: HTMLElement, data: SeriesData, at: number | null): void {
  const index = at === null ? -1 : data.times.indexOf(at);
  const items = data.lines.map((line, place) => {
    const swatch = element("span", "series-swatch");
    swatch.style.background = colour(COLOURS[place % COLOURS.length] ?? "accent");
    const value = index < 0 ? line.values.findLast((each) => each !== null) : line.values[index];
    return element("span", "", swatch, `${line.label} `, element("b", "", inUnit(value ?? null, line)));
  });
  const when = index < 0 ? "" : timeText((at ?? 0) * 1e3, { day: "numeric", month: "short" });
  legend.replaceChildren(...items, element("span", "series-when", when));
}

function inUnit(value: number | null, line: Line): string {
  return value === null ? "–" : `${number(value, line.decimals ?? 0)} ${line.unit}`.trim();
}

function summary(data: SeriesData): string {
  return data.lines.map((line) => {
    const known = line.values.filter((value): value is number => value !== null);
    if (known.length === 0) return `${line.label}: no data`;
    const text = (value: number) => inUnit(value, line);
    let [least, most] = [Infinity, -Infinity];
    for (const value of known) [least, most] = [Math.min(least, value), Math.max(most, value)];
    return `${line.label}: now ${text(known.at(-1) ?? 0)}, from ${text(least)} to ${text(most)}`;
  }).join("; ");
}
