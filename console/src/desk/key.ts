// The key that the desk binds this tab's tokens to. Its private half cannot leave the browser, so a token is worth nothing to who has only that.

export interface Key {
  /** The public half: its 32 bytes in base64url, as tokens name it. */
  readonly x: string;
  sign(data: Uint8Array<ArrayBuffer>): Promise<Uint8Array>;
}

/** A new one; nothing where the browser has no Ed25519: its tokens are bound to no key. */
export async function makeKey(): Promise<Key | undefined> {
  try {
    const pair = (await crypto.subtle.generateKey({ name: "Ed25519" }, false, ["sign", "verify"])) as CryptoKeyPair;
    const { x } = await crypto.subtle.exportKey("jwk", pair.publicKey);
    if (!x) return undefined;
    return { x, sign: async (data) => new Uint8Array(await crypto.subtle.sign("Ed25519", pair.privateKey, data)) };
  } catch (error) {
    if (error instanceof DOMException) return undefined;
    throw error;
  }
}
