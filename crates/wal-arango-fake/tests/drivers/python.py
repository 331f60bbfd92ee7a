"""Python's official driver, unmodified, against a server that asks for a password: argv[1] is its address."""

import sys

from arango import ArangoClient
from arango.exceptions import (
    AQLQueryExecuteError,
    CursorNextError,
    DocumentGetError,
    DocumentInsertError,
    DocumentRevisionError,
    ServerConnectionError,
)

client = ArangoClient(hosts=sys.argv[1])


def system(method):
    return client.db("_system", username="wal", password="secret", auth_method=method, verify=True)


# Passwords and tokens.
for method in ("basic", "jwt"):
    assert system(method).version().startswith("3.1")
try:
    client.db("_system", username="wal", password="wrong", verify=True)
    raise SystemExit("a wrong password was good enough")
except ServerConnectionError as error:
    assert "Wrong" in str(error) or "not authorized" in str(error) or "401" in str(error), error

# Databases.
sys_db = system("jwt")
if sys_db.has_database("driver"):
    sys_db.delete_database("driver")
assert sys_db.create_database("driver")
assert "driver" in sys_db.databases()
db = client.db("driver", username="wal", password="secret", auth_method="jwt")
assert db.properties()["name"] == "driver"
assert db.status()["server"] == "arango"
assert db.engine()["name"] == "rocksdb"

# Collections.
entries = db.create_collection("entries", sync=True)
assert db.has_collection("entries")
assert [c["name"] for c in db.collections() if not c["system"]] == ["entries"]
assert entries.properties()["sync"] is True
assert entries.configure(sync=False)["sync"] is False

# Documents: one.
meta = entries.insert({"_key": "a", "n": 1, "deep": {"x": 1}}, sync=True, return_new=True)
assert meta["new"]["n"] == 1
assert entries.has("a") and entries.get("a")["n"] == 1 and entries.get("none") is None
try:
    entries.insert({"_key": "a"})
    raise SystemExit("a duplicate was inserted")
except DocumentInsertError as error:
    assert (error.http_code, error.error_code) == (409, 1210), error
updated = entries.update({"_key": "a", "deep": {"y": 2}}, merge=False, return_new=True, return_old=True)
assert updated["old"]["deep"] == {"x": 1} and updated["new"]["deep"] == {"y": 2}
assert updated["_old_rev"] == meta["_rev"]
try:
    entries.replace({"_key": "a", "_rev": meta["_rev"]}, check_rev=True)
    raise SystemExit("a stale revision was replaced")
except DocumentRevisionError as error:
    assert (error.http_code, error.error_code) == (412, 1200), error
entries.replace({"_key": "a", "n": 2})
assert "deep" not in entries.get("a")

# Documents: many.
made = entries.insert_many([{"_key": "b"}, {"_key": "a"}, {"_key": "no good"}, {"n": 5}], sync=True)
assert made[0]["_key"] == "b" and "_rev" in made[3]
assert isinstance(made[1], DocumentInsertError) and made[1].error_code == 1210
assert isinstance(made[2], DocumentInsertError) and made[2].error_code == 1221
assert entries.insert_many([{"_key": "b", "x": 1}], overwrite_mode="ignore")[0]["_key"] == "b"
assert entries.count() == 3
assert {d["_key"] for d in entries.get_many(["a", "b", "zz"])} == {"a", "b"}
assert all("_rev" in one for one in entries.update_many([{"_key": "a", "m": 1}, {"_key": "b", "m": 1}]))
assert all("_rev" in one for one in entries.replace_many([{"_key": "b", "k": 1}]))
assert entries.delete_many([{"_key": "b"}])[0]["_key"] == "b"
assert entries.delete("a")["_key"] == "a"
assert entries.import_bulk([{"_key": f"k{i:03}", "i": i} for i in range(250)])["created"] == 250

# Indexes.
index = entries.add_index({"type": "persistent", "fields": ["i", "_key"], "name": "by_i", "estimates": False})
assert index["isNewlyCreated"] and index["name"] == "by_i"
assert not entries.add_index({"type": "persistent", "fields": ["i", "_key"], "storedValues": ["x"]})["isNewlyCreated"]
entries.add_index({"type": "ttl", "fields": ["t"], "expireAfter": 60, "name": "expiry"})
assert {i["name"] for i in entries.indexes()} == {"primary", "by_i", "expiry"}
assert entries.delete_index("expiry")

# Queries and cursors.
cursor = db.aql.execute(
    "FOR d IN @@c FILTER d.i >= @from SORT d.i, d._key RETURN d.i",
    bind_vars={"@c": "entries", "from": 10},
    batch_size=100,
    count=True,
)
assert cursor.count() == 240 and len(cursor.batch()) == 100
assert list(cursor) == list(range(10, 250))
retried = db.aql.execute("FOR i IN 1..5 RETURN i", batch_size=2, allow_retry=True)
assert list(retried) == [1, 2, 3, 4, 5]
streamed = db.aql.execute("FOR d IN entries RETURN d._key", stream=True, batch_size=100, ttl=10)
assert len(list(streamed)) == 251
abandoned = db.aql.execute("FOR i IN 1..5 RETURN i", batch_size=2)
assert abandoned.close()
try:
    list(abandoned)
    raise SystemExit("a closed cursor went on")
except CursorNextError as error:
    assert (error.http_code, error.error_code) == (404, 1600), error
try:
    db.aql.execute("FOR d IN none RETURN d")
    raise SystemExit("a collection that is not there was read")
except AQLQueryExecuteError as error:
    assert (error.http_code, error.error_code) == (404, 1203), error
plan = db.aql.explain("FOR d IN entries FILTER d.i == 7 RETURN d")
assert any(node["type"] == "IndexNode" for node in plan["nodes"])
assert db.aql.validate("FOR d IN @@c RETURN d")["bind_vars"] == ["@c"]

assert entries.truncate() and entries.count() == 0
assert db.delete_collection("entries")
assert sys_db.delete_database("driver")
print("done")
