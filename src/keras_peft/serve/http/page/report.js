/** Shows an adapter's report in a frame that cannot run scripts. */

import { readReport } from "./api.js";
import { byId, show, tell } from "./dom.js";

const name = new URLSearchParams(location.search).get("adapter") ?? "";
document.title = `Report: ${name}`;
try {
  const frame = byId("report");
  frame.srcdoc = await readReport(name);
  frame.title = `Report of ${name}`;
  show(frame, true);
  show(byId("told"), false);
} catch (error) {
  tell(byId("told"), error.message, true);
}
