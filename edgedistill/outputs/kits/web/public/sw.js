// Keeps every file of the build, so that the page works offline. `vite build` fills in the two constants.
const CACHE = "kit-" + "VERSION";
const FILES = ["FILES"];

self.addEventListener("install", (event) => {
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(FILES.map((file) => `./${file}`))));
});

self.addEventListener("activate", (event) => {
  const old = (name) => name.startsWith("kit-") && name !== CACHE;
  event.waitUntil(caches.keys().then((names) => Promise.all(names.filter(old).map((name) => caches.delete(name)))));
});

self.addEventListener("fetch", (event) => {
  if (event.request.method !== "GET") return;
  // Servers answer with `Vary: Origin`, and a script is asked for with an origin, unlike when it was kept.
  const kept = caches.match(event.request, { ignoreSearch: true, ignoreVary: true });
  event.respondWith(kept.then((found) => found ?? fetch(event.request)));
});
