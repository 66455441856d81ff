// Which relay has the session: the one that serves this page, or one that it named when it left service.

/** Relays that one may name. */
const ALTERNATIVES_MAX = 16;

/** A relay's address, like "https://relay.example"; nothing for the one that serves this page. */
export type Place = string | undefined;

export class Route {
  /** In the order in which they are tried. Never empty. */
  private places: readonly Place[] = [undefined];
  private at = 0;
  private current: Place;

  /** The relay to dial now. */
  get place(): Place {
    return this.places[this.at];
  }

  /** The relay that took us last; before any has, the one that serves this page. */
  get here(): Place {
    return this.current;
  }

  /**
   * The relay that we are at leaves service, and may say so more than once. Whether it named others: then they are dialled
   * next, in this order, and it comes last.
   */
  leave(alternatives: readonly string[]): boolean {
    const others = alternatives.slice(0, ALTERNATIVES_MAX).filter(isRelay);
    if (others.length === 0) return false;
    this.places = [...others, this.here];
    this.at = 0;
    return true;
  }

  /** This relay did not take us: another one may. */
  failed(): void {
    this.at = (this.at + 1) % this.places.length;
  }

  /** This relay does not know our ticket: it is none of those that may have the session. Whether others are left. */
  ruleOut(): boolean {
    if (this.places.length === 1) return false;
    this.places = this.places.filter((_, at) => at !== this.at);
    this.at %= this.places.length;
    return true;
  }

  /** This relay has taken us, and the others in the session: who tried another one later would never meet them again. */
  arrived(): void {
    this.current = this.place;
    this.places = [this.here];
    this.at = 0;
  }
}

function isRelay(url: string): boolean {
  try {
    return new URL(url).protocol === "https:";
  } catch {
    return false;
  }
}
