// Opens the page of a web kit in Chromium, and prints what it shows as JSON. node browse.mjs URL CHROMIUM [--shots DIR] FILE ...

import { chromium } from "playwright";

const [url, executablePath, shots, ...files] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
const page = await browser.newPage({ viewport: { width: 1200, height: 900 } });
const problems = [];
page.on("pageerror", (error) => problems.push(error.message));

async function opened() {
  const ended = () =>
    document.getElementById("status").dataset.kind === "bad" || !!document.getElementById("verdict").dataset.kind;
  await page.waitForFunction(ended, null, { timeout: 60_000 });
  return { status: await page.textContent("#status"), verdict: await page.textContent("#verdict") };
}

await page.goto(url);
const found = { ...(await opened()), answers: [], none: [], problems };
if (!found.verdict.includes("not run")) {
  await page.click("#verdict");
  found.replay = await page.$$eval("#replay tr", (rows) => rows.map((row) => row.innerText.split("\t")));
  for (const file of files) {
    await page.evaluate(() => document.getElementById("answers").replaceChildren());
    await page.setInputFiles("#file", file);
    await page.waitForSelector("#answers li");
    found.none.push(await page.textContent("#none"));
    found.answers.push(await page.$$eval("#answers li", (rows) => rows.map((row) => row.innerText.split("\n"))));
  }
  await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
  await page.evaluate(() => document.getElementById("copy").click());
  found.latency = JSON.parse(await page.evaluate(() => navigator.clipboard.readText()));
  if (shots !== "-") {
    await page.screenshot({ path: `${shots}/wide.png`, fullPage: true });
    await page.setViewportSize({ width: 390, height: 844 });
    await page.screenshot({ path: `${shots}/phone.png`, fullPage: true });
  }
  await page.waitForFunction(async () => (await navigator.serviceWorker.getRegistration())?.active, null);
  await page.context().setOffline(true);
  await page.reload();
  found.offline = await opened();
}
console.log(JSON.stringify(found));
await browser.close();
