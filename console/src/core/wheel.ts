// Wheels in 1/120 of a notch, whatever unit a browser counts in. What is less than a unit is kept for the next event.

/** What this file needs of a WheelEvent. */
export interface WheelLike {
  readonly deltaX: number;
  readonly deltaY: number;
  /** 0 pixels, 1 lines, 2 pages. */
  readonly deltaMode: number;
}

/** 1/120 notches in one of each unit: 100 pixels, 3 lines or a page are a notch. */
const PER_UNIT = [120 / 100, 120 / 3, 120];

export class Wheel {
  private restX = 0;
  private restY = 0;

  take({ deltaX, deltaY, deltaMode }: WheelLike): { x: number; y: number } {
    const unit = PER_UNIT[deltaMode] ?? 1;
    this.restX += deltaX * unit;
    this.restY += deltaY * unit;
    const [x, y] = [whole(this.restX), whole(this.restY)];
    this.restX -= x;
    this.restY -= y;
    return { x, y };
  }
}

/** The whole part, where sums of fractions may miss it by a hair. */
function whole(value: number): number {
  return Math.trunc(Math.round(value * 1e6) / 1e6);
}
