// Which language the page speaks: the first of the browser's that is known, or `?lang=`.
import { de } from "./de";
import { type Catalogue, en } from "./en";

const CATALOGUES: { readonly [language: string]: Catalogue } = { de, en };

function choose(): [string, Catalogue] {
  const asked = new URLSearchParams(location.search).get("lang");
  const wanted = asked ? [asked, ...navigator.languages] : navigator.languages;
  for (const tag of wanted) {
    const language = tag.split("-")[0]?.toLowerCase() ?? "";
    const catalogue = CATALOGUES[language];
    if (catalogue) return [language, catalogue];
  }
  return ["en", en];
}

const [chosen, catalogue] = choose();

/** Every string of the page. */
export const text: Catalogue = catalogue;
/** The language they are in, as a BCP 47 tag. */
export const language: string = chosen;
