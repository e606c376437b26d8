// The server shows times in the browser's zone, which a cookie names. A page that was rendered for
// another zone is loaded again.
const YEAR_SECONDS = 31_536_000;

export function tellZone(): void {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  if (!zone || zone === document.body.dataset["zone"]) return;
  const secure = location.protocol === "https:" ? "; Secure" : "";
  document.cookie =
    `zone=${encodeURIComponent(zone)}; Path=/console; Max-Age=${YEAR_SECONDS}; SameSite=Strict${secure}`;
  // Only once per tab: a server that does not know the zone answers in UTC again.
  if (sessionStorage.getItem("zone") === zone || !document.cookie.includes("zone=")) return;
  sessionStorage.setItem("zone", zone);
  location.reload();
}
