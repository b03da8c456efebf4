// Browsers run modules of pages from a server only. This script is no module, so that it can say so.
if (location.protocol === "file:") {
  addEventListener("DOMContentLoaded", () => {
    document.getElementById("loading").hidden = true;
    const told = document.getElementById("told");
    told.className = "problem";
    told.textContent =
      "Browsers load the model from a web server only: run “python -m http.server” in this folder and open http://localhost:8000.";
  });
}
