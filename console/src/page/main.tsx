// The page's entry.
import "../styles/base.css";
import "../styles/list.css";
import "../styles/session.css";
import { render } from "preact";
import { language, text } from "../i18n";
import { App } from "./app";
import { takeSecret } from "./place";

// Before anything else: the secret must not stay in the address.
const secret = takeSecret();

document.documentElement.lang = language;
document.title = text.product;
render(<App secret={secret} />, document.getElementById("app") as HTMLElement);
