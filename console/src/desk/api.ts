// The support desk's HTTP API, on the console's own origin. A cookie that scripts cannot read says who is signed in.

export interface Me {
  readonly name: string;
  readonly organisation: string;
}

export type DeskState = "connecting" | "waiting" | "active" | "reconnecting" | "offline";

/** A support session as the desk lists it. */
export interface DeskSession {
  readonly id: string;
  /** What the customer types to join; nothing once it is spent. */
  readonly code: string | null;
  readonly state: DeskState;
  readonly created_at: string;
  readonly code_expires_at: string;
  readonly customer_online: boolean;
  /** How often somebody else tried its code after the customer. */
  readonly code_failures: number;
}

/** The desk said no. `status` 0: it could not be reached. */
export class DeskError extends Error {
  override readonly name = "DeskError";

  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

/** A desk that does not answer is not waited for longer than this, ms. */
const PATIENCE_MS = 10_000;

async function call(method: string, path: string, body?: unknown): Promise<unknown> {
  let response: Response;
  try {
    response = await fetch(`/api/v1/${path}`, {
      method,
      signal: AbortSignal.timeout(PATIENCE_MS),
      ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { "content-type": "application/json" } }),
    });
  } catch (error) {
    throw new DeskError(0, "unreachable", String(error));
  }
  const answer = (await response.json().catch(() => undefined)) as
    | { error?: { code?: string; message?: string } }
    | undefined;
  if (response.ok) return answer;
  throw new DeskError(response.status, answer?.error?.code ?? "unknown", answer?.error?.message ?? response.statusText);
}

export async function signIn(secret: string): Promise<Me> {
  return (await call("POST", "sign-in", { secret })) as Me;
}

export async function signOut(): Promise<void> {
  await call("POST", "sign-out");
}

export async function me(): Promise<Me> {
  return (await call("GET", "me")) as Me;
}

export async function listSessions(): Promise<DeskSession[]> {
  return ((await call("GET", "sessions")) as { sessions: DeskSession[] }).sessions;
}

export async function createSession(): Promise<DeskSession> {
  return (await call("POST", "sessions")) as DeskSession;
}

/** A token that admits this technician to a session's relay, good for one attempt, and only with this key if there is one. */
export async function token(session: string, key?: string): Promise<string> {
  const answer = await call("POST", `sessions/${session}/token`, key === undefined ? undefined : { key });
  return (answer as { token: string }).token;
}

export async function endSession(session: string): Promise<void> {
  await call("DELETE", `sessions/${session}`);
}
