// A firewall before a relay, of this folder's own: at another address of this computer, at the relay's port number, TCP
// passes and UDP does once it is let.
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { connect, createServer } from "node:net";

/** Where clients find it. */
const ADDRESS = "127.0.0.2";

export class Gate {
  /** Datagrams of clients that were not let through. */
  turnedAway = 0;
  #isOpen = false;
  #tcp = createServer();
  #udp = createSocket("udp4");
  #port;
  /** Of each client, the socket by which it speaks to the relay. */
  #clients = new Map();
  #connections = new Set();

  /** @param {import("./programs.mjs").Relay} relay */
  static async before(relay) {
    const gate = new Gate();
    gate.#port = Number(new URL(relay.ready.console).port);
    gate.#tcp.on("connection", (client) => gate.#pipe(client));
    gate.#tcp.listen(gate.#port, ADDRESS);
    gate.#udp.on("message", (datagram, client) => gate.#pass(datagram, client));
    gate.#udp.bind(gate.#port, ADDRESS);
    await Promise.all([once(gate.#tcp, "listening"), once(gate.#udp, "listening")]);
    return gate;
  }

  /** A URL of the relay's, as clients behind the gate know it. */
  url(url) {
    const behind = new URL(url);
    behind.hostname = ADDRESS;
    return behind.href;
  }

  /** Lets datagrams through, or loses them without a word. */
  letUdp(isOpen) {
    this.#isOpen = isOpen;
  }

  async end() {
    for (const socket of this.#connections) socket.destroy();
    for (const socket of this.#clients.values()) socket.close();
    this.#udp.close();
    this.#tcp.close();
    await once(this.#tcp, "close");
  }

  #pipe(client) {
    const relay = connect(this.#port, "127.0.0.1");
    for (const [from, to] of [
      [client, relay],
      [relay, client],
    ]) {
      this.#connections.add(from);
      from.setNoDelay(true);
      from.on("error", () => to.destroy());
      from.on("close", () => {
        this.#connections.delete(from);
        to.destroy();
      });
      from.pipe(to);
    }
  }

  #pass(datagram, { address, port }) {
    if (!this.#isOpen) {
      this.turnedAway += 1;
      return;
    }
    const name = `${address}:${port}`;
    let socket = this.#clients.get(name);
    if (!socket) {
      socket = createSocket("udp4");
      socket.on("message", (answer) => this.#isOpen && this.#udp.send(answer, port, address));
      // A relay that ended answers so: what was sent is lost, as it is elsewhere.
      socket.on("error", () => {});
      this.#clients.set(name, socket);
    }
    socket.send(datagram, this.#port, "127.0.0.1");
  }
}
