// The project's own programs as the end-to-end tests start them: each on free ports, in a folder of its own, ended by its
// process id.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

/** Where the programs are: `cargo build`'s folder, or the environment's BIN. */
const bin = process.env.BIN ?? fileURLToPath(new URL("../../target/debug", import.meta.url));

/** A program that runs, and what it has said. */
export class Program {
  /** Its standard error so far. */
  log = "";

  /** @param {string} name @param {string[]} args @param {Record<string, string>} [env] */
  constructor(name, args, env = {}) {
    this.name = name;
    this.child = spawn(join(bin, name), args, { env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "pipe"] });
    this.exited = once(this.child, "exit").catch(() => {});
    this.child.stderr.on("data", (text) => {
      this.log += text;
    });
    this.lines = createInterface({ input: this.child.stdout })[Symbol.asyncIterator]();
  }

  /** The next line of its standard output. */
  async line() {
    const { value, done } = await this.lines.next();
    if (done) throw new Error(`${this.name} ended: ${this.log}`);
    return value;
  }

  /**
   * Ends it, and waits until it has.
   * @param {NodeJS.Signals} [signal]
   */
  async end(signal = "SIGTERM") {
    this.child.kill(signal);
    let overdue;
    const late = new Promise((_, reject) => {
      overdue = setTimeout(() => {
        this.child.kill("SIGKILL");
        reject(new Error(`${this.name} does not end by ${signal}`));
      }, 10_000);
    });
    await Promise.race([this.exited, late]);
    clearTimeout(overdue);
  }
}

/** A relay for trying out, with its desk and the console, over plain HTTP on loopback. */
export class Relay {
  /** What it says of itself: relay, fingerprint, console, code. */
  ready;

  static async start({ udp = true } = {}) {
    const relay = new Relay();
    relay.udp = udp;
    relay.folder = await mkdtemp(join(tmpdir(), "tandem-e2e-"));
    await relay.run("127.0.0.1:0");
    return relay;
  }

  async run(listen) {
    const args = ["serve", "--dev", "--json", "--listen", listen, "--operations", "127.0.0.1:0"];
    this.program = new Program("tandem-relay", [
      ...args,
      ...["--udp", String(this.udp), "--state-directory", join(this.folder, "state")],
    ]);
    this.ready = JSON.parse(await this.program.line());
  }

  /** Kills it without a chance to say goodbye, and starts it again at the same address. */
  async crash() {
    await this.program.end("SIGKILL");
  }

  async restart() {
    await this.run(new URL(this.ready.relay).host);
  }

  /**
   * One of its metrics, by its name.
   * @param {string} name
   */
  async metric(name) {
    const answer = await fetch(new URL("/metrics", this.ready.operations));
    const line = (await answer.text()).split("\n").find((line) => line.startsWith(`${name} `));
    if (!line) throw new Error(`no metric ${name}`);
    return Number(line.slice(name.length));
  }

  /** As an operator who does not wait for a browser that has vanished without a word: the second signal ends it at once. */
  async end() {
    const again = setTimeout(() => this.program.child.kill("SIGTERM"), 3000);
    await this.program.end();
    clearTimeout(again);
    await rm(this.folder, { recursive: true });
  }
}
