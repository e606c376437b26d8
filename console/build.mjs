// Builds what the console's pages load: src/*.ts and style/*.css, into the Python package.
//
// One file for each entry below; what two of them share comes in a chunk of its own. Names have a hash
// of what they hold, and manifest.json says which is which. Files are gzipped, so that nothing is
// compressed while people wait. The licences of what is bundled go with it, in licences.txt.
import { build } from "esbuild";
import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { basename, dirname, extname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const here = dirname(fileURLToPath(import.meta.url));
const target = resolve(here, process.argv[2] ?? "../src/echo_ingest/web/console/static");
const fresh = `${target}.new`;
const entries = ["src/console.ts", "src/map.ts", "src/series.ts", "src/clip.ts", "src/form.ts", "style/console.css", "style/icon.svg"];

await rm(fresh, { recursive: true, force: true });
await mkdir(fresh, { recursive: true });
const { metafile } = await build({
  absWorkingDir: here,
  entryPoints: entries,
  outdir: fresh,
  bundle: true,
  splitting: true,
  format: "esm",
  target: ["es2022", "chrome111", "firefox113", "safari16.4"],
  minify: true,
  legalComments: "none",
  entryNames: "[name]-[hash]",
  chunkNames: "shared-[hash]",
  assetNames: "[name]-[hash]",
  // Leaflet's pictures of pins and layers are not used; what a style asks for is in the style.
  loader: { ".png": "dataurl", ".svg": "copy" },
  metafile: true,
  logLevel: "warning",
});

// "src/map.ts" → "map.js", and the style that a script brings along → "map.css".
const manifest = {};
for (const [path, { entryPoint, cssBundle }] of Object.entries(metafile.outputs)) {
  if (!entryPoint) continue;
  const name = basename(entryPoint, extname(entryPoint));
  manifest[name + extname(path)] = basename(path);
  if (cssBundle) manifest[`${name}.css`] = basename(cssBundle);
}

const packages = new Set(
  Object.keys(metafile.inputs).map((path) => /^node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1]),
);
packages.delete(undefined);
let licences = "";
for (const name of [...packages].sort()) {
  const folder = join(here, "node_modules", name);
  const { version } = JSON.parse(await readFile(join(folder, "package.json"), "utf8"));
  // Every one of them asks for its notice to be kept: without it there is no build.
  const file = (await readdir(folder)).find((each) => /^licen[cs]e/i.test(each));
  licences += `${name} ${version}\n\n${await readFile(join(folder, file), "utf8")}\n\n`;
}
const digest = createHash("sha256").update(licences).digest("hex").slice(0, 8).toUpperCase();
manifest["licences.txt"] = `licences-${digest}.txt`;
await writeFile(join(fresh, manifest["licences.txt"]), licences);

for (const name of await readdir(fresh)) {
  const path = join(fresh, name);
  await writeFile(`${path}.gz`, gzipSync(await readFile(path), { level: 9 }));
  await rm(path);
}
await writeFile(join(fresh, "manifest.json"), `${JSON.stringify(manifest, null, 2)}\n`);
await rm(target, { recursive: true, force: true });
await rename(fresh, target);
