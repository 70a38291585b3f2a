// Checks chat.js against a system that `chatstorm up` started: node tests/foreign/node/check.js 127.0.0.1:7101 127.0.0.1:7102
'use strict';
const { Chat, conv, print } = require('./chat.js');
const crypto = require('crypto');
const [one, two] = process.argv.slice(2), started = Date.now();
const say = (...words) => console.log(((Date.now() - started) / 1000).toFixed(1).padStart(5), ...words);
const sleep = (ms) => new Promise((r) => setTimeout(r, ms));
const must = (ok, what) => { if (!ok) throw new Error(what); };
const step = async (name, run) => { try { say('ok  ', name, '-', (await run()) ?? ''); } catch (e) { failed++; say('FAIL', name, '-', e.message); } };
let nextUser = 700001, failed = 0;

// A device with a token; connected unless `gate` is null.
async function device(gate = one, { user = nextUser++, index = 0, ...rest } = {}) {
  const c = new Chat(user, index, rest);
  c.on('odd', (what) => say('ODD ', user, what)).on('close', (code, reason) => (c.reason = reason));
  await c.login(one);
  if (gate) await c.connect(gate);
  return c;
}
// Makes a mistake on a connection of its own, expects this close code.
const mistake = (name, code, make, { hello = true, ms = 5000, ...rest } = {}) => step(`mistake: ${name}, expect ${code}`, async () => {
  const c = await device(hello ? one : null, rest);
  const late = sleep(ms).then(() => 'none');
  const seen = await Promise.race([Promise.resolve(make(c)).then(() => c.closed), late]).catch((e) => e.code ?? e.message);
  const told = `closed with ${seen} "${c.reason ?? ''}", ${c.error ? `error frame ${print(c.error)}` : 'no error frame'}`;
  if (c.ws) c.ws.raw.destroy();
  must(seen === code, told); return told;
});

async function story() {
  const a = await device(null);
  await step('token', async () => print(await a.login(one)).slice(0, 60));
  await step('hello and welcome', async () => print([await a.connect(one), await a.wait('caught_up')]));
  const chat = conv(1, a.user), cid = crypto.randomUUID(), at = Date.now() + a.skew; let first;
  await step('send to user 1', async () => { first = await a.send(chat, 'hello', { cid, client_ms: at }); must(first && first.mid, print(first)); return print(first); });
  await step('answer of user 1', async () => {
    const d = await a.wait('deliver', (f) => f.from === 1, 10000); await sleep(300);
    return `${print({ ...d, body: undefined })} body ${d.body.length} bytes; acknowledged ${a.cursor.dseq}`; });
  await step('duplicate', async () => { const d = await a.send(chat, 'hello', { cid, client_ms: at }); must(d.dup && d.mid === first.mid && d.cseq === first.cseq, print(d)); return print(d); });
  await step('history', async () => {
    const r = await a.history(one, chat, `?after=0&min_cseq=${first.cseq}`);
    must(r.status === 200 && r.body.messages.find((m) => m.mid === first.mid), print(r)); return r.body.messages.map((m) => `${m.cseq} from ${m.from}`).join(', '); });

  const b = await device(two), own = conv(a.user, b.user);
  await step('two own users chat', async () => {
    await b.send(own, 'hi a'); await a.wait('deliver', (f) => f.conv === own);
    await a.send(own, 'hi b'); const d = await b.wait('deliver', (f) => f.conv === own);
    const r = await b.wait('receipt', (f) => f.conv === own);
    return `b got "${d.body}", receipt ${print(r)}`; });
  await step('resume on the other gateway', async () => {
    await sleep(300); const from = a.cursor.dseq; await a.close();
    for (let i = 1; i <= 12; i++) await b.send(own, `while away ${i}`);
    const start = a.log.length, w = await a.connect(two);
    await a.wait('caught_up', () => true, 5000, start); await sleep(200);
    const got = a.log.slice(start).filter(([n]) => n === 'deliver').map(([, f]) => `${f.body}`.split(' ')[2]);
    must(w.resume === 'ok' && got.join() === '1,2,3,4,5,6,7,8,9,10,11,12', print([w, got]));
    return `cursor ${from}, ${w.resume}, next_dseq ${w.next_dseq}, got ${got}`; });
  for (const gate of [two, one]) await step(`displaced by a connection on ${gate}`, async () => {
    const before = a.closed, start = a.log.length; await a.connect(gate);
    const code = await Promise.race([before, sleep(5000)]); must(code === 4509, `saw ${code}`);
    return `closed with ${code}`; });
  await step('the client is asked pings and answers', async () => {
    const from = a.log.length, p = await a.wait('ping', () => true, 30000, from); await sleep(500);
    must(await a.send(own, 'still here'), 'gone'); return print(p); });
  await step('leave', async () => `closed with ${await a.close()}`);
}
// The conversation once more in MessagePack.
const packed = () => step('the same in MessagePack', async () => {
  const a = await device(one, { format: 'msgpack' }), b = await device(two, { format: 'msgpack' }), own = conv(a.user, b.user);
  await a.send(own, 'packed'); const d = await b.wait('deliver'); must(`${d.body}` === 'packed' && d.conv === own, print(d)); return `${d.mid} ${d.body}`; });

async function mistakes() {
  await mistake('a frame of no known name', 1002, (c) => c.write('nonsense', {}));
  await mistake('an ack beyond what was sent', 1002, (c) => c.write('ack', { dseq: 1000 }));
  await mistake('text that is no JSON', 1002, (c) => c.ws.write(1, Buffer.from('{')));
  await mistake('binary on a JSON connection', 1003, (c) => c.ws.write(2, Buffer.from('{}')));
  await mistake('text that is no UTF-8', 1007, (c) => c.ws.write(1, Buffer.from([0x22, 0xff, 0xfe, 0x22])));
  await mistake('a message over 128 KiB', 1009, (c) => c.ws.write(1, Buffer.alloc(131073, 32)));
  await mistake('a bad token', 4401, (c) => c.connect(one, { token: 'v1.bad' }), { hello: false });
  await mistake('a hello for another device', 4401, (c) => c.connect(one, { device: c.device + 1 }), { hello: false });
  await mistake('another frame than hello first', 1002, async (c) => {
    c.write = () => Chat.prototype.write.call(c, 'send', { cid: crypto.randomUUID(), attempt: 1, conv: conv(1, c.user), kind: 0, body: Buffer.from('early'), client_ms: Date.now() });
    await c.connect(one); }, { hello: false });
  await mistake('another version', 4500, (c) => c.connect(one, { proto: 2 }), { hello: false });
}
// The slow ones run beside the rest.
const slow = () => [
  mistake('no hello for 10 s', 4401, async (c) => { c.write = () => {}; await c.connect(one); }, { hello: false, ms: 15000 }),
  mistake('no pongs', 4408, () => {}, { pongs: false, ms: 46000 }),
  mistake('no acks for 30 s', 4440, async (c) => { const b = await device(two); await b.send(conv(b.user, c.user), 'read me'); }, { acks: false, ms: 40000 }),
];
setTimeout(() => { say('out of time'); process.exit(2); }, 48000).unref();
Promise.all([...slow(), story(), packed(), mistakes()]).then(() => process.exit(failed ? 1 : 0));
