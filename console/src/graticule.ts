// Lines of latitude and longitude with their degrees at the edge: a map that needs no other host.
import * as L from "leaflet";
import { element } from "./island";

const STEPS = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 45];
const APART_PIXELS = 110;
const LETTER_PIXELS = 7;

export function graticule(map: L.Map): void {
  const lines = L.layerGroup().addTo(map);
  const labels = element("div", "graticule-labels");
  labels.setAttribute("aria-hidden", "true");
  map.getContainer().append(labels);

  const step = () => {
    const size = map.getSize();
    const { lng: west } = map.containerPointToLatLng([0, size.y / 2]);
    const { lng: east } = map.containerPointToLatLng([size.x, size.y / 2]);
    const wanted = ((east - west) / size.x) * APART_PIXELS;
    return STEPS.find((each) => each >= wanted) ?? 45;
  };
  const drawLines = () => {
    lines.clearLayers();
    const around = map.getBounds().pad(0.6);
    const [south, north] = [Math.max(-85, around.getSouth()), Math.min(85, around.getNorth())];
    const options = { className: "graticule", interactive: false, smoothFactor: 0, noClip: true };
    for (const at of multiples(around.getWest(), around.getEast(), step()))
      lines.addLayer(L.polyline([[south, at], [north, at]], options));
    for (const at of multiples(south, north, step()))
      lines.addLayer(L.polyline([[at, around.getWest()], [at, around.getEast()]], options));
  };
  const drawLabels = () => {
    const [bounds, apart] = [map.getBounds(), step()];
    labels.replaceChildren();
    const label = (text: string, edge: string, x: number, y: number) => {
      const node = element("span", edge, text);
      node.style.transform = `translate(${Math.round(x)}px, ${Math.round(y)}px)`;
      labels.append(node);
    };
    for (const at of multiples(bounds.getWest(), bounds.getEast(), apart)) {
      const [text, { x }] = [degrees(at, apart, "E", "W"), map.latLngToContainerPoint([bounds.getNorth(), at])];
      if (x + LETTER_PIXELS * (text.length + 1) < map.getSize().x) label(text, "at-top", x, 0);
    }
    for (const at of multiples(Math.max(-85, bounds.getSouth()), Math.min(85, bounds.getNorth()), apart))
      label(degrees(at, apart, "N", "S"), "at-left", 0, map.latLngToContainerPoint([at, bounds.getWest()]).y);
  };
  map.on("moveend", drawLines);
  map.on("move", drawLabels);
  map.whenReady(() => {
    drawLines();
    drawLabels();
  });
}

function multiples(from: number, to: number, step: number): number[] {
  const list = [];
  for (let each = Math.ceil(from / step); each * step <= to; each++) list.push(each * step);
  return list;
}

function degrees(at: number, step: number, positive: string, negative: string): string {
  const decimals = Math.max(0, Math.ceil(-Math.log10(step) - 1e-9));
  const around = ((at + 540) % 360) - 180;
  const text = Math.abs(around).toFixed(decimals);
  return Number(text) === 0 ? "0°" : `${text}° ${around > 0 ? positive : negative}`;
}
