// Tells edgekit that this page is still there.
const EVERY_MS = 2000;
setInterval(() => fetch("beat", { method: "POST" }).catch(() => {}), EVERY_MS);
