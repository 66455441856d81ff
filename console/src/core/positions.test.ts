import { expect, test } from "vitest";
import { LaneKind, plainLane } from "./lane";
import { Positions } from "./positions";
import type { Header } from "./record";

const header = (seq: number) => ({ epoch: 7n, seq: BigInt(seq) }) as Header;
const input = (sender: number) => plainLane(LaneKind.Input, sender);

test("however many have come and gone, whoever is here is named", () => {
  const positions = new Positions();
  positions.accept({ kind: LaneKind.Screen, display: 3, rendition: 0, sender: 1 }, header(0));
  for (let sender = 2; sender < 200; sender += 1) {
    expect(positions.accept(input(1), header(sender))).toBe(true);
    expect(positions.accept(input(sender), header(0))).toBe(true);
  }
  expect(positions.accept(input(1), header(3))).toBe(false);
  const senders = positions.list().map(({ lane }) => lane.sender);
  expect(senders).toHaveLength(48);
  expect(senders).toContain(1);
  expect(senders).toContain(199);
  expect(positions.list().map(({ lane }) => lane.display)).toContain(3);
  expect(senders).not.toContain(2);
});
