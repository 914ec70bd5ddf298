// Keeps a page up to date and moves the heat map's slider. Everything else works without it.
"use strict";

document.documentElement.classList.add("script");

// The heat map over the scan: the slider is the upper picture's opacity.
function follow(slider) {
  const heat = document.getElementById("heat-picture");
  const shown = document.getElementById("heat-shown");
  if (!slider || !heat) return;
  const show = () => {
    heat.style.opacity = slider.value / 100;
    if (shown) shown.textContent = `${slider.value} %`;
  };
  slider.addEventListener("input", show);
  show();
}

// Fetches the page again and exchanges the parts that the server changed. The server's own words
// are compared, not the document, which the browser and the slider alter.
const parts = (root) => new Map([...root.querySelectorAll("[data-live]")].map((p) => [p.id, p]));
const words = new Map([...parts(document)].map(([id, part]) => [id, part.outerHTML]));

async function refresh() {
  const answer = await fetch(location.href, {
    headers: { Accept: "text/html", "Spinesight-Refresh": "1" },
    cache: "no-store",
  });
  if (answer.status === 401) return location.reload();
  if (!answer.ok) throw new Error("no answer");
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const [id, part] of parts(page)) {
    const now = part.outerHTML;
    const old = document.getElementById(id);
    if (!old || words.get(id) === now) continue;
    words.set(id, now);
    const focused = old.contains(document.activeElement) && document.activeElement;
    const mark = focused && (focused.id || focused.getAttribute("href"));
    old.replaceWith(document.adoptNode(part));
    if (mark) {
      const again = [...part.querySelectorAll("[id], [href]")]
        .find((e) => e.id === mark || e.getAttribute("href") === mark);
      again?.focus({ preventScroll: true });
    }
    if (part.querySelector("#heat")) follow(part.querySelector("#heat"));
  }
}

// A burst of events is one refresh; a failed one is tried again.
let due = null;
function refreshSoon(delay) {
  if (due !== null) return;
  due = setTimeout(async () => {
    due = null;
    try {
      await refresh();
    } catch {
      refreshSoon(5000);
    }
  }, delay);
}

function connection(live) {
  const sign = document.getElementById("connection");
  if (!sign) return;
  sign.dataset.state = live ? "live" : "lost";
  sign.querySelector("span").textContent = live ? "Live" : "Not connected";
}

function listen() {
  const events = new EventSource("/events");
  events.addEventListener("open", () => {
    connection(true);
    // From here nothing is missed; what came before it is fetched.
    refreshSoon(0);
  });
  events.addEventListener("change", (event) => {
    if (event.data !== "-") document.getElementById("said").textContent = event.data;
    refreshSoon(300);
  });
  events.addEventListener("ended", () => {
    events.close();
    location.reload();
  });
  events.addEventListener("error", () => {
    connection(false);
    // The browser connects again by itself unless it was refused.
    if (events.readyState !== EventSource.CLOSED) return;
    refreshSoon(0);
    setTimeout(listen, 10000);
  });
}

follow(document.getElementById("heat"));
if (document.getElementById("connection")) listen();
