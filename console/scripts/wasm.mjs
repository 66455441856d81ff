// Puts the decoder that ../scripts/build-wasm has built where the bundler finds it.
import { copyFile, mkdir } from "node:fs/promises";

const built = new URL("../../target/wasm/tandem_codec.wasm", import.meta.url);
const wanted = new URL("../src/gen/tandem_codec.wasm", import.meta.url);

await mkdir(new URL(".", wanted), { recursive: true });
try {
  await copyFile(built, wanted);
} catch (error) {
  if (error.code !== "ENOENT") throw error;
  console.error("The decoder is not built yet. Run scripts/build-wasm in the project's root, then build again.");
  process.exit(1);
}
