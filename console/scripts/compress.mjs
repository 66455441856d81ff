// Writes a .br and a .gz beside every file of a folder that is worth it, and prints what the first view costs: everything
// is needed for it but source maps.
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join, relative } from "node:path";
import { promisify } from "node:util";
import { brotliCompress, constants, gzip } from "node:zlib";

/** The most that the first view may cost, bytes over the network. */
const BUDGET = 200_000;

const folder = process.argv[2] ?? "dist";
const brotli = (bytes) =>
  promisify(brotliCompress)(bytes, {
    params: {
      [constants.BROTLI_PARAM_QUALITY]: constants.BROTLI_MAX_QUALITY,
      [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length,
    },
  });

/** All files below a folder. Node 18 has no recursive readdir that says which are files. */
async function filesIn(path) {
  const entries = await readdir(path, { withFileTypes: true });
  const nested = entries.map((entry) => {
    const below = join(path, entry.name);
    return entry.isDirectory() ? filesIn(below) : [below];
  });
  return (await Promise.all(nested)).flat();
}

let total = 0;
for (const file of (await filesIn(folder)).sort()) {
  if (/\.(br|gz)$/.test(file)) continue;
  const bytes = await readFile(file);
  const packed = await brotli(bytes);
  await writeFile(`${file}.br`, packed);
  await writeFile(`${file}.gz`, await promisify(gzip)(bytes, { level: 9 }));
  total += packed.length;
  console.log(`${String(bytes.length).padStart(9)} ${String(packed.length).padStart(8)} br  ${relative(folder, file)}`);
}
console.log(`first view: ${total} bytes compressed`);
if (total > BUDGET) {
  console.error(`That is more than ${BUDGET}.`);
  process.exit(1);
}
