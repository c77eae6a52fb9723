// The console of a center.
import { run } from "./frame.js";
import { more, t } from "./words.js";
import { OWN } from "./own-words.js";
import * as card from "./card.js";
import * as change from "./change.js";
import * as gateways from "./gateways.js";
import * as live from "./live.js";
import * as sheet from "./sheet.js";

more(OWN);
run({
  pages: { gateways, card, change, sheet },
  live,
  paths: { session: "/console/session", words: "/console/words" },
  title: () => t("center"),
});
