// How long the console's worker takes from a record to its picture: `node e2e/bench/bench.mjs RECORDS`, a file that
// `tandem-loadtest codec --records` has written. Prints the median and the rest of the distribution, in ms.
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { extname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "vite";
import { launch } from "../browser.mjs";

/** The median that is aimed at, ms. */
const TARGET_MS = 8;

const root = fileURLToPath(new URL("../..", import.meta.url));
const [records] = process.argv.slice(2);
if (!records) throw new Error("which records?");

const PAGE = `<!doctype html><canvas></canvas><script type="module">
const worker = new Worker("/worker.js", { type: "module" });
worker.onmessage = ({ data }) => { globalThis.answer = data; };
worker.onerror = ({ message }) => { globalThis.answer = { error: message }; };
const canvas = document.querySelector("canvas").transferControlToOffscreen();
const file = await (await fetch("/records")).arrayBuffer();
worker.postMessage({ canvas, file }, [canvas, file]);
</script>`;

const TYPES = { ".js": "text/javascript", ".wasm": "application/wasm" };

async function bundle(folder) {
  await build({
    root,
    configFile: false,
    logLevel: "error",
    build: {
      outDir: folder,
      target: "es2022",
      assetsInlineLimit: 0,
      modulePreload: false,
      rollupOptions: {
        input: { worker: join(root, "e2e/bench/worker.ts") },
        output: { entryFileNames: "[name].js" },
      },
    },
  });
}

function serve(folder) {
  const server = createServer(async ({ url }, response) => {
    const { pathname } = new URL(url, "http://localhost");
    try {
      const isPage = pathname === "/";
      const body = isPage ? PAGE : await readFile(pathname === "/records" ? records : join(folder, pathname));
      response.setHeader(
        "content-type",
        isPage ? "text/html" : (TYPES[extname(pathname)] ?? "application/octet-stream"),
      );
      response.end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
  return new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server)));
}

const folder = await mkdtemp(join(tmpdir(), "tandem-bench-"));
await bundle(folder);
const server = await serve(folder);
const browser = await launch();
try {
  const page = await browser.newPage();
  await page.goto(`http://127.0.0.1:${server.address().port}/`);
  await page.waitForFunction(() => globalThis.answer !== undefined, undefined, { timeout: 120_000 });
  const { result, error } = await page.evaluate(() => globalThis.answer);
  if (error) throw new Error(error);
  const { took, skipped, updates, lost, hasVideo, isRight } = result;
  const sorted = took.toSorted((a, b) => a - b);
  const at = (part) => sorted[Math.min(Math.floor(sorted.length * part), sorted.length - 1)].toFixed(2);
  console.log(`${updates} updates at 30 pictures/s${hasVideo ? "" : "; this browser decodes no H.264"}`);
  console.log(
    `decode + draw, ms: median ${at(0.5)} (aim: ${TARGET_MS}), 95 % ${at(0.95)}, 99 % ${at(0.99)}, most ${at(1)}`,
  );
  console.log(`skipped updates: ${skipped}; lost: ${lost.length}; the last picture is ${isRight ? "exact" : "wrong"}`);
  if (lost.length > 0 || !isRight) {
    console.error([...new Set(lost)].join("\n"));
    process.exitCode = 1;
  }
} finally {
  await browser.close();
  server.close();
  await rm(folder, { recursive: true });
}
