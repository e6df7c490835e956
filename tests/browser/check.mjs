// The admin pages of the built program in a real browser, with and without JavaScript: see a host go down and come back, add,
// drain and delete a host, switch a group, read the plot's label. Then every page for both roles, in light and dark, wide and
// narrow, goes through an HTML validator and an accessibility checker, and is pictured.
//
// Usage: node check.mjs PROGRAM BROWSER FOLDER-FOR-PICTURES

import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import readline from 'node:readline';
import axe from 'axe-core';
import { HtmlValidate } from 'html-validate';
import { chromium } from 'playwright-core';

const [program, browserPath, pictures] = process.argv.slice(2);
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tcpdirector-browser-'));
const LONG = 'a-host-with-quite-a-long-name.and-a-domain.of-some.example';

// A server that sends back what it gets, on a free port or on a given one.
const serve = (port = 0) => new Promise((resolve) => {
  const clients = new Set();
  const server = net.createServer((client) => {
    clients.add(client);
    client.on('close', () => clients.delete(client)).on('error', () => {}).pipe(client);
  });
  const end = () => new Promise((done) => {
    server.close(done);
    clients.forEach((client) => client.destroy());
  });
  server.listen(port, '127.0.0.1', () => resolve({ ip: `127.0.0.1:${server.address().port}`, port: server.address().port, end }));
});

// A client of the balancer with an open session, or with none when it was turned away.
const visit = (port) => new Promise((resolve) => {
  const client = net.connect(port, '127.0.0.1', () => client.write('x'.repeat(2000)));
  client.once('data', () => resolve(client)).on('error', () => resolve(client)).on('close', () => resolve(client));
});

// Starts the program; tells the ports of its services and of its pages.
const balance = async (xml) => {
  const file = path.join(folder, 'browser.xml');
  fs.writeFileSync(file, xml);
  const child = spawn(program, ['-c', file], { stdio: ['ignore', 'ignore', 'pipe'] });
  const ports = {};
  for await (const line of readline.createInterface({ input: child.stderr })) {
    const [, service, port] = /listen service=(\S+) address=\S+:(\d+) state=open/.exec(line) || [];
    if (service) ports[service] = Number(port);
    const admin = /admin address=\S+:(\d+) state=open/.exec(line);
    if (admin) {
      child.stderr.resume();
      return { child, ports, at: `http://127.0.0.1:${admin[1]}` };
    }
  }
  throw new Error('the program ended at once');
};

const step = (text) => console.log(`  ${text}`);

// What a person does with the page, step by step.
const use = async (browser, { at, ports }, hosts, javaScriptEnabled) => {
  console.log(`${javaScriptEnabled ? 'with' : 'without'} JavaScript`);
  const stranger = await browser.newContext({ javaScriptEnabled });
  await assert.rejects((await stranger.newPage()).goto(`${at}/running`), /INVALID_AUTH_CREDENTIALS/);
  await stranger.close();

  const context = await browser.newContext({ javaScriptEnabled, httpCredentials: { username: 'full', password: 'secret' } });
  const page = await context.newPage();
  const complaints = [];
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('console', (message) => complaints.push(message.text()));
  // the script looks every two seconds then, and a browser without it has its own way
  assert.equal((await page.goto(`${at}/running?refresh=2`)).status(), 200);
  const headline = (text) => page.locator('h1', { hasText: text }).waitFor();
  const web = page.getByRole('region', { name: 'web', exact: true });
  const row = (name) => web.locator('tr', { has: page.getByRole('rowheader', { name, exact: true }) });
  const says = (text) => page.locator('#message', { hasText: text }).waitFor();
  const button = (name) => web.getByRole('button', { name, exact: true });
  const open = (text) => web.locator('summary', { hasText: text }).click();
  // the page of a change is another one, which refreshes itself with the script alone
  const back = () => page.goto(`${at}/running?refresh=2`);
  await headline('All is well');
  step('logged in, and all is well');

  await hosts.two.end();
  for (let i = 0; i < 3; i += 1) (await visit(ports.web)).destroy();
  await headline('1 host is down');
  await row('two').getByText('connection refused').waitFor();
  step('saw a host go down');
  hosts.two = await serve(hosts.two.port);
  await headline('All is well');
  step('saw it come back');

  if (javaScriptEnabled) {
    await page.goto(`${at}/running?refresh=0`);
    await page.locator('#fresh', { hasText: 'Paused' }).waitFor();
    await page.getByRole('button', { name: 'Go on' }).click();
    await page.locator('#fresh', { hasText: 'Live' }).waitFor();
    step('asked for a page that keeps still, and let it go on');
  }

  // from here on the page must not be loaded again while it is typed in
  await page.goto(`${at}/running`);
  await open('Change group main');
  const name = web.getByLabel('New host').first();
  await name.fill('typed');
  if (javaScriptEnabled) {
    await page.locator('#fresh', { hasText: 'Live' }).waitFor();
    assert.equal(await name.inputValue(), 'typed');
    step('typed, and the page was refreshed around that');
  }
  await name.fill('new & <b>');
  await web.getByLabel('Address', { exact: true }).first().fill('127.0.0.1:9');
  await button('Add host').first().click();
  await says('added to main / web');
  await row('new & <b>').waitFor();
  step('added a host');

  await button('Drain new & <b>').click();
  await says('is draining');
  await row('new & <b>').getByText(/draining|disabled/).waitFor();
  step('drained it');

  await web.getByLabel('Delete new & <b>', { exact: true }).click();
  await button('Yes, delete new & <b>').click();
  await says('deleted');
  assert.equal(await row('new & <b>').count(), 0);
  step('deleted it');

  const group = (title) => web.locator('section.group', { has: page.getByRole('heading', { name: title }) });
  for (const title of ['spare', 'main']) {
    await button(`Enable group ${title}`).click();
    await says(`Group ${title} enabled for service web`);
    await group(`${title} enabled`).first().waitFor();
  }
  step('switched to another group and back');

  await open('Change group main');
  await web.getByLabel('New host').first().fill('one');
  await web.getByLabel('Address', { exact: true }).first().fill('127.0.0.1:9');
  await button('Add host').first().click();
  await page.locator('#message[role=alert]', { hasText: 'NOT OK: there is a host `one`' }).waitFor();
  step('was told why a host could not be added');

  await back();
  const plot = page.getByRole('img', { name: /^Open sessions in the last five minutes/ }).first();
  await plot.waitFor();
  step(`read the label of the plot: ${await plot.locator('title').textContent()}`);
  // the browser complains of the one refusal, and must not of anything else, such as what the content security policy forbids
  assert.deepEqual(complaints.filter((text) => !text.includes('409 (Conflict)')), []);
  await context.close();
};

const validator = new HtmlValidate({ extends: ['html-validate:standard', 'html-validate:a11y'], rules: { 'no-trailing-whitespace': 'off' } });
const PAGES = { running: '/running?resultMessage=done', sessions: '/sessions', events: '/events', about: '/' };

// One page in one look: what the accessibility checker says of it with everything unfolded, and whether it fits.
const inspectLook = async (browser, at, { title, user, state, width, colorScheme }) => {
  const look = `${title}-${state}-${user}-${width}-${colorScheme}`;
  const context = await browser.newContext({
    bypassCSP: true, colorScheme, viewport: { width, height: 800 }, httpCredentials: { username: user, password: 'secret' },
  });
  const page = await context.newPage();
  await page.goto(at + PAGES[title]);
  const picture = (name) => page.screenshot({ path: path.join(pictures, `${name}.png`), fullPage: true });
  await picture(look);
  await page.evaluate(() => document.querySelectorAll('details').forEach((details) => { details.open = true; }));
  if (title === 'running') await picture(`${look}-unfolded`);
  await page.evaluate(axe.source);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  const found = violations.map((v) => `${look}: ${v.id}: ${v.help}: ${v.nodes.map((node) => node.html).join(' ')}`);
  const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  if (over > 0) found.push(`${look}: ${over} pixels too wide`);
  await context.close();
  return found;
};

// One page for one user: the text of it, then its looks.
const inspect = async (browser, at, title, user, state) => {
  const headers = { authorization: `Basic ${btoa(`${user}:secret`)}`, accept: 'text/html' };
  const html = await (await fetch(at + PAGES[title], { headers })).text();
  const { results } = await validator.validateString(html);
  const found = results.flatMap(({ messages }) => messages.map((m) => `${title} ${user}: ${m.ruleId} ${m.line}: ${m.message}`));
  for (const colorScheme of ['light', 'dark']) {
    for (const width of [1200, 360]) found.push(...await inspectLook(browser, at, { title, user, state, width, colorScheme }));
  }
  return found;
};

const inspectAll = async (browser, at, state, titles, users) => {
  const found = [];
  for (const user of users) for (const title of titles) found.push(...await inspect(browser, at, title, user, state));
  assert.deepEqual(found, [], `with ${state}`);
  console.log(`validator and accessibility checker found nothing with ${state}`);
};

const hosts = { one: await serve(), two: await serve(), [LONG]: await serve(), four: await serve(), five: await serve() };
const host = (name) => `<host name="${name}" ip="${hosts[name].ip}"/>`;
const hash = execFileSync(program, ['--passwd'], { input: 'secret\n' }).toString().trim();
const balancer = await balance(`<pdconfig>
  <service name="web"><listen ip="127.0.0.1:0"/>
    <group name="main" scheduler="roundrobin">${host('one')}${host('two')}${host(LONG)}</group>
    <group name="spare" scheduler="leastconns">${host('four')}</group>
    <enable group="main"/></service>
  <service name="mail"><listen ip="127.0.0.1:0"/><group name="main" scheduler="random">${host('five')}</group></service>
  <admin listen="127.0.0.1:0"><user name="full" password="${hash}" access="full"/><user name="ro" password="${hash}" access="readonly"/></admin>
  <checktime time="1s"/>
</pdconfig>`);
// whatever happens, nothing is left running
process.on('exit', () => balancer.child.kill('SIGKILL'));
let browser;
try {
  // chromium makes itself a new folder for its profile, and removes it
  const flags = 'disable-gpu disable-quic no-first-run disable-background-networking disable-component-update disable-sync';
  const args = flags.split(' ').map((flag) => `--${flag}`);
  browser = await chromium.launch({ executablePath: browserPath, headless: true, chromiumSandbox: false, args });
  const sessions = [];
  for (let i = 0; i < 7; i += 1) sessions.push(await visit(balancer.ports.web));
  await use(browser, balancer, hosts, true);
  await use(browser, balancer, hosts, false);
  await inspectAll(browser, balancer.at, 'all-well', ['running'], ['full']);
  await hosts.two.end();
  for (let i = 0; i < 3; i += 1) sessions.push(await visit(balancer.ports.web));
  await inspectAll(browser, balancer.at, 'one-down', Object.keys(PAGES), ['full', 'ro']);
  await hosts.five.end();
  sessions.push(await visit(balancer.ports.mail));
  await inspectAll(browser, balancer.at, 'no-host', ['running'], ['full']);
  sessions.forEach((client) => client.destroy());
} finally {
  await browser?.close();
  fs.rmSync(folder, { recursive: true });
}
process.exit(0);
