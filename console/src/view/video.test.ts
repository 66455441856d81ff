import { describe, expect, it } from "vitest";
import { codecOf } from "./video";

describe("the codec string of a video region", () => {
  it("is that of its sequence parameters, wherever they stand", () => {
    const parameters = [0, 0, 0, 1, 0x67, 0x42, 0xc0, 0x1e, 0x8c, 0x68];
    expect(codecOf(Uint8Array.from(parameters))).toBe("avc1.42c01e");
    expect(codecOf(Uint8Array.from([0, 0, 1, 0x09, 0x10, ...parameters]))).toBe("avc1.42c01e");
  });

  it("is none without them", () => {
    expect(codecOf(Uint8Array.from([0, 0, 0, 1, 0x65, 0x88, 0x84, 0, 0, 0]))).toBeUndefined();
    expect(codecOf(Uint8Array.from([0, 0, 1, 0x67, 0x42]))).toBeUndefined();
  });
});
