// The nodes on a map: a grid of latitude and longitude with a scale, and tiles below it only where the
// page names a host for them. Nodes that would cover each other are shown as one mark with their count,
// so that ten thousand are as quick as ten. Each mark can be reached by keyboard.
import * as L from "leaflet";
import "leaflet/dist/leaflet.css";
import "../style/map.css";
import { element, islands, number } from "./island";
import { graticule } from "./graticule";

type State = "good" | "look" | "bad" | "off" | "unknown";
/** Name, latitude, longitude, state, and the state in words. */
type Mark = [string, number, number, State, string];
type Side = "left" | "right";
type MapData = { nodes: Mark[]; tiles: string | null };

/** With few nodes in view, only those that would cover each other share a cell; with many, a cell has room for a count. */
const CELL = L.point(30, 30);
const CROWD_CELL = L.point(66, 40);
const CROWD_FROM = 80;
const NAMED_MAX = 40;
const LETTER_PIXELS = 7;
const LISTED_MAX = 12;
const ZOOM_MAX = 18;
const WORST_FIRST: State[] = ["bad", "look", "unknown", "off", "good"];
const SHAPES: Record<State, string> = {
  good: "M8 2a6 6 0 1 0 .01 0Z",
  look: "M8 1 15.500 14.500H.5Z",
  bad: "M2 2h12v12H2Z",
  off: "M2 6.500h12v3H2Z",
  unknown: "M8 2.500a5.500 5.500 0 1 0 .01 0Z",
};

islands<MapData>("map", (place, data) => {
  place.replaceChildren();
  const map = L.map(place, {
    minZoom: 1, maxZoom: ZOOM_MAX, zoomSnap: 0.5, scrollWheelZoom: false, maxBounds: [[-90, -220], [90, 220]],
    attributionControl: data.tiles !== null, zoomControl: false,
  });
  L.control.zoom({ position: "bottomright", zoomInTitle: "Zoom in", zoomOutTitle: "Zoom out" }).addTo(map);
  L.control.scale({ imperial: false }).addTo(map);
  if (data.tiles === null) graticule(map);
  else {
    // Some hosts of tiles want to know which site asks: they are told its name, but no page.
    const attribution = `Map: ${new URL(data.tiles).host}`;
    L.tileLayer(data.tiles, { maxZoom: ZOOM_MAX, referrerPolicy: "strict-origin", attribution }).addTo(map);
    map.attributionControl.setPrefix(false);
  }
  // A wheel scrolls the page until the map is clicked or reached by keyboard.
  map.on("focus click", () => map.scrollWheelZoom.enable());
  map.on("blur mouseout", () => map.scrollWheelZoom.disable());

  const marks = L.layerGroup().addTo(map);
  let nodes = data.nodes;
  const bounds = boundsOf(nodes);
  if (bounds === null) map.setView([0, 0], 1);
  else map.fitBounds(bounds, { paddingTopLeft: [40, 30], paddingBottomRight: [64, 30], maxZoom: 14, animate: false });

  const draw = () => {
    const focused = document.activeElement;
    const held = place.contains(focused) ? focused?.getAttribute("data-mark") : null;
    marks.clearLayers();
    const groups = grouped(map, nodes);
    const sides = groups.length <= NAMED_MAX ? legible(map, groups) : new Map<Mark[], Side>();
    for (const group of groups) marks.addLayer(mark(map, group, sides.get(group)));
    if (held) place.querySelector<HTMLElement>(`[data-mark="${CSS.escape(held)}"]`)?.focus({ preventScroll: true });
  };
  map.on("moveend", draw);
  draw();
  return (fresh) => {
    nodes = fresh.nodes;
    if (!map.getContainer().querySelector(".leaflet-popup")) draw();
  };
});

function boundsOf(nodes: Mark[]): L.LatLngBounds | null {
  const bounds = L.latLngBounds(nodes.map(([, latitude, longitude]) => [latitude, longitude]));
  return bounds.isValid() ? bounds : null;
}

/** Groups the nodes in view by the cells of a grid that is fixed to the ground. */
function grouped(map: L.Map, nodes: Mark[]): Mark[][] {
  const view = map.getBounds().pad(0.1);
  const inView = nodes.filter((node) => view.contains([node[1], node[2]]));
  const size = inView.length < CROWD_FROM ? CELL : CROWD_CELL;
  const cells = new Map<string, Mark[]>();
  for (const node of inView) {
    const { x, y } = map.project([node[1], node[2]]).unscaleBy(size).floor();
    const cell = cells.get(`${x} ${y}`);
    if (cell) cell.push(node);
    else cells.set(`${x} ${y}`, [node]);
  }
  return [...cells.values()];
}

/** Finds on which side of its mark a name covers no other mark and no earlier name. */
function legible(map: L.Map, groups: Mark[][]): Map<Mark[], Side> {
  const places = groups.map((group) => map.latLngToContainerPoint(middleOf(group)));
  const taken = places.map(({ x, y }) => L.bounds([x - 9, y - 9], [x + 9, y + 9]));
  const sides = new Map<Mark[], Side>();
  groups.forEach((group, index) => {
    const { x, y } = places[index] ?? L.point(0, 0);
    const width = LETTER_PIXELS * (group[0]?.[0].length ?? 0) + 4;
    for (const [side, left] of [["right", x + 10], ["left", x - 10 - width]] as const) {
      const name = L.bounds([left, y - 7], [left + width, y + 7]);
      if (left < 0 || left + width > map.getSize().x) continue;
      if (taken.some((each, other) => other !== index && each.intersects(name))) continue;
      taken.push(name);
      sides.set(group, side);
      return;
    }
  });
  return sides;
}

function middleOf(group: Mark[]): L.LatLng {
  return L.latLng(
    group.reduce((sum, node) => sum + node[1], 0) / group.length,
    group.reduce((sum, node) => sum + node[2], 0) / group.length,
  );
}

function mark(map: L.Map, group: Mark[], side: Side | undefined): L.Marker {
  const [first] = group as [Mark];
  const state = WORST_FIRST.find((each) => group.some((node) => node[3] === each)) ?? "unknown";
  const middle = middleOf(group);
  const isOne = group.length === 1;
  const words = isOne ? `${first[0]}: ${first[4]}` : `${number(group.length)} nodes; ${worst(group, state)}`;
  const icon = element("span", `mark ${state}`, shape(state));
  if (!isOne) icon.append(element("span", "mark-count", number(group.length)));
  else if (side) icon.append(element("span", `mark-name at-${side}`, first[0]));
  const marker = L.marker(middle, {
    icon: L.divIcon({ html: icon, className: "mark-place", iconSize: [16, 16] }),
    title: words, alt: words, riseOnHover: true, zIndexOffset: 100 * (WORST_FIRST.length - WORST_FIRST.indexOf(state)),
  });
  marker.on("add", () => {
    const place = marker.getElement();
    place?.setAttribute("aria-label", words);
    place?.setAttribute("data-mark", first[0]);
  });
  marker.on("click keypress", (event) => {
    const key = (event as L.LeafletKeyboardEvent).originalEvent?.key;
    if (event.type === "keypress" && key !== "Enter" && key !== " ") return;
    const around = boundsOf(group);
    const isSpread = around !== null && !around.getNorthEast().equals(around.getSouthWest());
    if (isSpread && map.getZoom() < ZOOM_MAX) map.fitBounds(around, { padding: [60, 60], maxZoom: ZOOM_MAX });
    else L.popup({ autoPanPadding: [20, 20] }).setLatLng(middle).setContent(listed(group)).openOn(map);
  });
  return marker;
}

function worst(group: Mark[], state: State): string {
  const those = group.filter((node) => node[3] === state);
  const [one] = those as [Mark];
  return `${those.length === 1 ? one[0] : `${number(those.length)} of them`}: ${one[4]}`;
}

function listed(group: Mark[]): HTMLElement {
  const list = element("ul", "mark-list");
  for (const [name, , , state, words] of group.slice(0, LISTED_MAX)) {
    const link = element("a", "", name);
    link.href = `/console/node?name=${encodeURIComponent(name)}`; // in a path, .. would be lost
    list.append(element("li", "", element("span", `mark ${state}`, shape(state)), link, ` ${words}`));
  }
  const more = group.length - LISTED_MAX;
  if (more > 0) list.append(element("li", "quiet", `and ${number(more)} more at the same place`));
  return list;
}

function shape(state: State): SVGElement {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", SHAPES[state]);
  svg.append(path);
  return svg;
}
