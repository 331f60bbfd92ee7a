// JavaScript's official driver, unmodified, against a server that asks for a password: argv[2] is its address.

import assert from "node:assert/strict";
import { Database, aql } from "arangojs";

const url = process.argv[2];
const system = new Database({ url, databaseName: "_system", auth: { username: "wal", password: "secret" } });
assert.match((await system.version()).version, /^3\.1/);

// Tokens.
const fresh = new Database({ url, databaseName: "_system", auth: { username: "wal", password: "wrong" } });
await assert.rejects(fresh.version(), (error) => error.code === 401);
await fresh.login("wal", "secret");
await fresh.version();

// Databases.
if ((await system.databases()).some((database) => database.name === "driver")) await system.dropDatabase("driver");
const db = await system.createDatabase("driver");
assert.equal(await db.exists(), true);
assert.equal((await db.get()).name, "driver");

// Collections.
const entries = await db.createCollection("entries", { waitForSync: true });
assert.equal(await entries.exists(), true);
assert.equal((await entries.properties()).waitForSync, true);
assert.deepEqual((await db.collections()).map((collection) => collection.name), ["entries"]);

// Documents: one.
const made = await entries.save({ _key: "a", n: 1, deep: { x: 1 } }, { returnNew: true, waitForSync: true });
assert.equal(made.new.n, 1);
assert.equal((await entries.document("a")).n, 1);
assert.equal(await entries.documentExists("none"), false);
await assert.rejects(entries.save({ _key: "a" }), (error) => error.code === 409 && error.errorNum === 1210);
const updated = await entries.update("a", { deep: { y: 2 } }, { mergeObjects: false, returnNew: true });
assert.deepEqual(updated.new.deep, { y: 2 });
await assert.rejects(
  entries.replace("a", { n: 2 }, { ifMatch: made._rev }),
  (error) => error.code === 412 && error.errorNum === 1200,
);

// Documents: many.
const results = await entries.saveAll([{ _key: "b" }, { _key: "a" }, { n: 5 }]);
assert.equal(results[0]._key, "b");
assert.equal(results[1].errorNum, 1210);
assert.equal((await entries.documents(["a", "b"])).length, 2);
assert.equal((await entries.updateAll([{ _key: "a", m: 1 }, { _key: "zz", m: 1 }]))[1].errorNum, 1202);
assert.equal((await entries.removeAll(["a", "b"])).length, 2);
const many = Array.from({ length: 250 }, (_, i) => ({ _key: `k${String(i).padStart(3, "0")}`, i }));
assert.equal((await entries.import(many)).created, 250);
assert.equal((await entries.count()).count, 251);

// Indexes.
const index = await entries.ensureIndex({ type: "persistent", fields: ["i", "_key"], name: "by_i" });
assert.equal(index.isNewlyCreated, true);
assert.equal((await entries.ensureIndex({ type: "persistent", fields: ["i", "_key"] })).id, index.id);
assert.deepEqual((await entries.indexes()).map((known) => known.name), ["primary", "by_i"]);
await entries.dropIndex("by_i");

// Queries and cursors.
const cursor = await db.query(aql`FOR d IN ${entries} FILTER d.i >= ${10} SORT d.i RETURN d.i`, { batchSize: 100, count: true });
assert.equal(cursor.count, 240);
assert.deepEqual(await cursor.all(), many.slice(10).map((one) => one.i));
const retried = await db.query("FOR i IN 1..5 RETURN i", {}, { batchSize: 2, allowRetry: true });
assert.deepEqual(await retried.all(), [1, 2, 3, 4, 5]);
const abandoned = await db.query("FOR i IN 1..5 RETURN i", {}, { batchSize: 2 });
await abandoned.kill();
assert.equal(abandoned.batches.hasMore, false);
await assert.rejects(db.query("FOR d IN none RETURN d"), (error) => error.code === 404 && error.errorNum === 1203);
const { plan } = await db.explain(aql`FOR d IN ${entries} FILTER d._key == "k001" RETURN d`);
assert.ok(plan.nodes.some((node) => node.type === "IndexNode"));

await entries.truncate();
await entries.drop();
await system.dropDatabase("driver");
console.log("done");
