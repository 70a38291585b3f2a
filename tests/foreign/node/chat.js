// A chatstorm.v1 client in plain Node.js, written from docs/protocol.md alone. No packages.
'use strict';
const http = require('http'), crypto = require('crypto'), { EventEmitter } = require('events');

// --- JSON whose numbers may exceed 2^53: those become BigInt, all others stay numbers.
const small = (n) => (n <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(n) : n);
const parse = (text) => JSON.parse(text.replace(/"[^"\\]*(?:\\.[^"\\]*)*"|\d{16,}/g, (m) => (m[0] === '"' ? m : `"\\u0000${m}"`)),
  (k, v) => (typeof v === 'string' && v[0] === '\0' ? small(BigInt(v.slice(1))) : v));
const print = (value) => JSON.stringify(value, (k, v) => (typeof v === 'bigint' ? '\0' + v : v))
  .replace(/"\\u0000(\d+)"/g, '$1');

// --- MessagePack, as much of it as the frames need.
function pack(v) {
  const head = (byte, size, n) => { const b = Buffer.alloc(1 + size); b[0] = byte; b.writeUIntBE(n, 1, size); return b; };
  if (typeof v === 'boolean') return Buffer.from([v ? 0xc3 : 0xc2]);
  if (typeof v === 'number' && v < 128) return Buffer.from([v]);
  if (typeof v === 'number' || typeof v === 'bigint') { const b = Buffer.alloc(9, 0xcf); b.writeBigUInt64BE(BigInt(v), 1); return b; }
  if (typeof v === 'string') return Buffer.concat([head(0xda, 2, Buffer.byteLength(v)), Buffer.from(v)]);
  if (Buffer.isBuffer(v)) return Buffer.concat([head(0xc6, 4, v.length), v]);
  return Buffer.concat([head(0xde, 2, Object.keys(v).length), ...Object.entries(v).flatMap(([k, x]) => [pack(k), pack(x)])]);
}
function unpack(b) {
  let at = 0;
  const take = (n) => b.subarray(at, (at += n)), uint = (n) => take(n).readUIntBE(0, n);
  const map = (n) => { const m = {}; while (n--) { const k = one(); m[k] = one(); } return m; };
  function one() {
    const t = uint(1);
    if (t < 0x80) return t;
    if (t < 0x90) return map(t & 15);
    if (t >= 0xa0 && t < 0xc0) return take(t & 31).toString();
    switch (t) {
      case 0xc0: return null; case 0xc2: return false; case 0xc3: return true;
      case 0xc4: return take(uint(1)); case 0xc5: return take(uint(2)); case 0xc6: return take(uint(4));
      case 0xcc: return uint(1); case 0xcd: return uint(2); case 0xce: return uint(4);
      case 0xcf: return small(take(8).readBigUInt64BE());
      case 0xd9: return take(uint(1)).toString(); case 0xda: return take(uint(2)).toString(); case 0xdb: return take(uint(4)).toString();
      case 0xde: return map(uint(2)); case 0xdf: return map(uint(4));
    }
    throw new Error('MessagePack type 0x' + t.toString(16));
  }
  return one();
}

// --- Fields: ids are text and bodies are Buffers inside this client; the wire forms differ.
const uuid = (b) => b.toString('hex').replace(/(.{8})(.{4})(.{4})(.{4})(.{12})/, '$1-$2-$3-$4-$5');
const convBytes = (c) => { const b = Buffer.alloc(16); c.slice(1).split('-').forEach((u, i) => b.writeBigUInt64BE(BigInt(u), 8 * i)); return b; };
const toWire = { cid: (s) => Buffer.from(s.replace(/-/g, ''), 'hex'), conv: convBytes };
const fromWire = { cid: uuid, mid: uuid, conv: (b) => `d${b.readBigUInt64BE(0)}-${b.readBigUInt64BE(8)}` };
const mapFields = (fields, how) => Object.fromEntries(Object.entries(fields).map(([k, v]) => [k, how[k] ? how[k](v) : v]));
const formats = {
  json: { op: 1, protocol: 'chatstorm.v1.json',
    write: (name, f) => Buffer.from(print({ [name]: mapFields(f, { body: (b) => b.toString('base64') }) })),
    read: (b) => Object.entries(parse(b.toString())).map(([n, f]) => [n, mapFields(f, { body: (s) => Buffer.from(s, 'base64') })])[0] },
  msgpack: { op: 2, protocol: 'chatstorm.v1.msgpack',
    write: (name, f) => pack({ [name]: mapFields(f, toWire) }),
    read: (b) => Object.entries(unpack(b)).map(([n, f]) => [n, mapFields(f, fromWire)])[0] },
};
const conv = (a, b) => (a < b ? `d${a}-${b}` : `d${b}-${a}`);

// --- One HTTP call; answers {status, headers, body}, the body parsed where it is JSON.
function call(gate, method, path, { token, json } = {}) {
  return new Promise((resolve, reject) => {
    const headers = { connection: 'close' };
    if (token) headers.authorization = `Bearer ${token}`;
    if (json) headers['content-type'] = 'application/json';
    http.request(`http://${gate}${path}`, { method, headers }, (res) => {
      let text = '';
      res.on('data', (d) => (text += d)).on('end', () => {
        try { text = parse(text); } catch {}
        resolve({ status: res.statusCode, headers: res.headers, body: text });
      });
    }).on('error', reject).end(json && print(json));
  });
}

// --- A WebSocket. Emits 'message' (opcode, bytes) and 'close' (code or 0, reason) once.
class Socket extends EventEmitter {
  static open(gate, protocol) {
    return new Promise((resolve, reject) => {
      const headers = { connection: 'Upgrade', upgrade: 'websocket', 'sec-websocket-version': 13,
        'sec-websocket-key': crypto.randomBytes(16).toString('base64') };
      if (protocol) headers['sec-websocket-protocol'] = protocol;
      http.request(`http://${gate}/v1/ws`, { headers })
        .on('upgrade', (res, raw, first) => resolve(new Socket(raw, first, res.headers['sec-websocket-protocol'])))
        .on('response', (res) => { res.resume(); reject(Object.assign(new Error(`handshake: ${res.statusCode}`), { status: res.statusCode })); })
        .on('error', reject).end();
    });
  }
  constructor(raw, first, protocol) {
    super();
    Object.assign(this, { raw, protocol, buffer: Buffer.alloc(0), parts: [], pong: true, code: 0, reason: '' });
    raw.setNoDelay(true);
    raw.on('data', (d) => this.feed(d)).on('error', () => {}).on('end', () => raw.end())
      .on('close', () => this.emit('close', this.code, this.reason));
    setImmediate(() => this.feed(first));   // after the caller has set its listeners
  }
  feed(data) {
    this.buffer = Buffer.concat([this.buffer, data]);
    for (;;) {
      const b = this.buffer;
      if (b.length < 2) return;
      const at = { 126: 4, 127: 10 }[b[1]] ?? 2;
      if (b.length < at) return;
      const n = at === 2 ? b[1] : at === 4 ? b.readUInt16BE(2) : Number(b.readBigUInt64BE(2));
      if (b.length < at + n) return;
      const op = b[0] & 15, body = b.subarray(at, at + n);
      this.buffer = b.subarray(at + n);
      if (op === 8) {
        this.code = n >= 2 ? body.readUInt16BE(0) : 1005; this.reason = body.subarray(2).toString();
        this.write(8, body.subarray(0, 2)); this.raw.end();
      } else if (op === 9) { if (this.pong) this.write(10, body); }
      else if (op < 3) {                    // text, binary, or the continuation of either
        if (op) this.op = op;
        this.parts.push(body);
        if (b[0] & 128) this.emit('message', this.op, Buffer.concat(this.parts.splice(0)));
      }
    }
  }
  write(op, body, fin = true) {
    if (!this.raw.writable) return;
    const mask = crypto.randomBytes(4), n = body.length, first = (fin ? 128 : 0) | op;
    let head = Buffer.from([first, 128 | n]);              // clients mask what they send
    if (n > 65535) { head = Buffer.alloc(10); head.writeBigUInt64BE(BigInt(n), 2); head[0] = first; head[1] = 255; }
    else if (n > 125) head = Buffer.from([first, 254, n >> 8, n & 255]);
    this.raw.write(Buffer.concat([head, mask, body.map((x, i) => x ^ mask[i & 3])]));
  }
  close(code = 1000) { const b = Buffer.alloc(2); b.writeUInt16BE(code); this.write(8, b); setTimeout(() => this.raw.destroy(), 1000).unref(); }
}

// --- A device. `log` holds [name, fields] of every frame received; 'frame', 'show' and 'close' are emitted.
class Chat extends EventEmitter {
  constructor(user, index = 0, { cls = 'mobile', format = 'json', acks = true, pongs = true } = {}) {
    super();
    this.setMaxListeners(0);
    Object.assign(this, { user, index, cls, acks, pongs, format: formats[format], seen: new Set(), log: [], cursor: null, skew: 0, pending: null });
  }
  async login(gate) {
    const r = await call(gate, 'POST', '/v1/tokens', { json: { user: this.user, device: this.index, class: this.cls } });
    if (r.status !== 200) throw new Error(`token: ${r.status} ${print(r.body)}`);
    this.token = r.body.token; this.device = r.body.device;
    return r.body;
  }
  // Opens a connection, says hello (`hello` overrides its fields), answers the welcome or throws at a close.
  async connect(gate, hello = {}) {
    const ws = this.ws = await Socket.open(gate, this.format.protocol);
    this.closed = new Promise((resolve) => ws.on('close', (code, reason) => {
      if (ws === this.ws) { clearTimeout(this.pending); this.pending = null; }
      this.emit('close', code, reason); resolve(code);
    }));
    ws.pong = this.pongs;
    ws.on('message', (op, bytes) => {
      const [name, f] = this.format.read(bytes);
      if (ws === this.ws || name === 'error') this.receive(name, f);   // an older connection counts no more
    });
    const start = this.log.length; this.error = null;
    this.write('hello', { token: this.token, device: this.device, class: this.cls, proto: 1,
      ...(this.cursor && { resume: this.cursor }), ...hello });
    const closed = this.closed.then((code) => { throw Object.assign(new Error(`closed with ${code}`), { code }); });
    return Promise.race([this.wait('welcome', () => true, 12000, start), closed]);
  }
  write(name, fields) {
    if (this.pending && name !== 'ack') this.ack();      // an ack goes ahead of any other frame
    this.ws.write(this.format.op, this.format.write(name, fields));
  }
  ack() { clearTimeout(this.pending); this.pending = null; this.write('ack', { dseq: this.cursor.dseq }); }
  receive(name, f) {
    if (name === 'welcome' || name === 'reset') {
      clearTimeout(this.pending); this.pending = null;   // acks of old numbers mean nothing now
      this.cursor = { epoch: f.epoch, dseq: f.next_dseq - 1 };
      if (name === 'welcome') this.skew = f.server_ms - Date.now();
    } else if (name === 'deliver' || name === 'receipt') {
      if (f.dseq !== this.cursor.dseq + 1) this.emit('odd', `dseq ${f.dseq} after ${this.cursor.dseq}`);
      this.cursor.dseq = f.dseq;
      const key = `${f.conv}/${f.cseq}`;                  // a message is shown once
      if (name === 'deliver' && !this.seen.has(key)) { this.seen.add(key); this.emit('show', f); }
      if (this.acks && f.dseq % 8 === 0) this.ack();     // after 8 items at most, else after 200 ms
      else if (this.acks && !this.pending) this.pending = setTimeout(() => this.ack(), 200);
    } else if (name === 'ping') { if (this.pongs) this.write('pong', { t_ms: f.t_ms }); }
    else if (name === 'error') this.error = f;
    this.log.push([name, f]); this.emit('frame', name, f);
  }
  // The first frame of that name, from place `from` of the log on, that `test` likes.
  wait(name, test = () => true, ms = 5000, from = 0) {
    return new Promise((resolve, reject) => {
      const old = this.log.slice(from).find(([n, f]) => n === name && test(f));
      if (old) return resolve(old[1]);
      const done = (n, f) => { if (n === name && test(f)) { clearTimeout(timer); this.off('frame', done); resolve(f); } };
      const timer = setTimeout(() => { this.off('frame', done); reject(new Error(`no ${name} in ${ms} ms`)); }, ms);
      this.on('frame', done);
    });
  }
  // Sends and answers the `sent` or `reject`. Tries again after 5 s or a retryable reject, same cid and instant.
  async send(to, body, { cid = crypto.randomUUID(), kind = 0, client_ms = Date.now() + this.skew, tries = 3 } = {}) {
    for (let attempt = 1; ; attempt++) {
      const from = this.log.length, mine = (f) => f.cid === cid;
      this.write('send', { cid, attempt, conv: to, kind, body: Buffer.from(body), client_ms });
      const answer = await Promise.any([this.wait('sent', mine, 5000, from), this.wait('reject', mine, 5000, from)]).catch(() => null);
      if (attempt >= tries || (answer && !(answer.code && answer.retryable))) return answer;
      await new Promise((r) => setTimeout(r, (answer && answer.retry_after_ms) || 0));
    }
  }
  history(gate, of, query = '') { return call(gate, 'GET', `/v1/conversations/${of}/messages${query}`, { token: this.token }); }
  close() { this.ws.close(); return this.closed; }
}
module.exports = { Chat, Socket, call, conv, print };
