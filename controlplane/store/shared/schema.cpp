// SPDX-License-Identifier: Apache-2.0
// Schema of the shared store, all in the schema `tandem`. Every change of a rule is logged by triggers, whoever makes
// it, under a number that grows in the order of commits (the counter's row is locked until then), so that a gateway
// that was away reads what came after the last number it knows. Changes are told by NOTIFY, which is sent at commit.
#include "controlplane/store/shared/schema.hpp"

#include <array>
#include <fmt/format.h>

namespace tandem::store {

namespace {

// Statement triggers with transition tables: one log entry a row, one NOTIFY a statement, for a row set by hand as for
// a million imported.
constexpr const char* version_1 = R"(
CREATE TABLE tandem.fact (name text PRIMARY KEY, value text NOT NULL);
INSERT INTO tandem.fact VALUES ('identity', gen_random_uuid()::text);
CREATE TABLE tandem.counter (name text PRIMARY KEY, value bigint NOT NULL);
INSERT INTO tandem.counter VALUES ('rule', 0);

CREATE TABLE tandem.rule (
  address text COLLATE "C" PRIMARY KEY,
  level   text NOT NULL,
  keygen  text CHECK (keygen IN ('gateway', 'device', 'both')),
  path    text CHECK (path IN ('either', 'wlan', 'wwan')),
  comment text NOT NULL DEFAULT '');
CREATE TABLE tandem.rule_log (
  number  bigint PRIMARY KEY,
  at      timestamptz NOT NULL,
  who     text NOT NULL,
  removed boolean NOT NULL,
  address text NOT NULL,
  level   text NOT NULL,
  keygen  text,
  path    text,
  comment text NOT NULL);

CREATE FUNCTION tandem.log_rules(changed tandem.rule_log[]) RETURNS void LANGUAGE plpgsql
  SET search_path = pg_catalog, tandem AS $$
DECLARE n bigint;
BEGIN
  IF coalesce(cardinality(changed), 0) = 0 THEN RETURN; END IF;
  UPDATE tandem.counter SET value = value + cardinality(changed) WHERE name = 'rule'
    RETURNING value - cardinality(changed) INTO n;
  INSERT INTO tandem.rule_log
    SELECT n + row_number() OVER (ORDER BY c.removed DESC, c.address), clock_timestamp(),
           coalesce(nullif(current_setting('tandem.who', true), ''), 'directly, as ' || session_user),
           c.removed, c.address, c.level, c.keygen, c.path, c.comment
    FROM unnest(changed) AS c;
  PERFORM pg_notify('tandem_rule', '');
END $$;
CREATE FUNCTION tandem.rule_changed() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, tandem AS $$
BEGIN
  IF TG_OP = 'TRUNCATE' THEN
    PERFORM tandem.log_rules(array(SELECT ROW(0, now(), '', true, g.address, g.level, g.keygen, g.path, g.comment)::tandem.rule_log FROM tandem.rule g));
    RETURN NULL;
  END IF;
  IF TG_OP = 'DELETE' THEN
    PERFORM tandem.log_rules(array(SELECT ROW(0, now(), '', true, g.address, g.level, g.keygen, g.path, g.comment)::tandem.rule_log FROM gone g));
  ELSIF TG_OP = 'INSERT' THEN
    PERFORM tandem.log_rules(array(SELECT ROW(0, now(), '', false, c.address, c.level, c.keygen, c.path, c.comment)::tandem.rule_log FROM come c));
  ELSE
    PERFORM tandem.log_rules(array(
      SELECT ROW(0, now(), '', true, g.address, g.level, g.keygen, g.path, g.comment)::tandem.rule_log FROM gone g
        WHERE NOT EXISTS (SELECT FROM come c WHERE c.address = g.address)
      UNION ALL
      SELECT ROW(0, now(), '', false, c.address, c.level, c.keygen, c.path, c.comment)::tandem.rule_log FROM come c));
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER rule_inserted AFTER INSERT ON tandem.rule REFERENCING NEW TABLE AS come
  FOR EACH STATEMENT EXECUTE FUNCTION tandem.rule_changed();
CREATE TRIGGER rule_updated AFTER UPDATE ON tandem.rule REFERENCING OLD TABLE AS gone NEW TABLE AS come
  FOR EACH STATEMENT EXECUTE FUNCTION tandem.rule_changed();
CREATE TRIGGER rule_deleted AFTER DELETE ON tandem.rule REFERENCING OLD TABLE AS gone
  FOR EACH STATEMENT EXECUTE FUNCTION tandem.rule_changed();
CREATE TRIGGER rule_truncated BEFORE TRUNCATE ON tandem.rule
  FOR EACH STATEMENT EXECUTE FUNCTION tandem.rule_changed();

-- body: {"total": N, "calls": [[ended, ms since 1970; duration, ms; failed], ...]}, oldest first
CREATE TABLE tandem.profile (
  a    text COLLATE "C" NOT NULL,
  b    text COLLATE "C" NOT NULL,
  body json NOT NULL,
  PRIMARY KEY (a, b),
  CHECK (a <= b));
CREATE FUNCTION tandem.profile_changed() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, tandem AS $$
BEGIN
  IF TG_OP = 'TRUNCATE' THEN
    PERFORM pg_notify('tandem_profile', '*');
  ELSIF TG_OP = 'DELETE' THEN
    IF (SELECT count(*) FROM gone) > 500 THEN PERFORM pg_notify('tandem_profile', '*');
    ELSE PERFORM pg_notify('tandem_profile', json_build_array(a, b)::text) FROM gone; END IF;
  ELSE
    IF (SELECT count(*) FROM come) > 500 THEN PERFORM pg_notify('tandem_profile', '*');
    ELSE PERFORM pg_notify('tandem_profile', json_build_array(a, b)::text) FROM come; END IF;
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER profile_inserted AFTER INSERT ON tandem.profile REFERENCING NEW TABLE AS come
  FOR EACH STATEMENT EXECUTE FUNCTION tandem.profile_changed();
CREATE TRIGGER profile_updated AFTER UPDATE ON tandem.profile REFERENCING NEW TABLE AS come
  FOR EACH STATEMENT EXECUTE FUNCTION tandem.profile_changed();
CREATE TRIGGER profile_deleted AFTER DELETE ON tandem.profile REFERENCING OLD TABLE AS gone
  FOR EACH STATEMENT EXECUTE FUNCTION tandem.profile_changed();
CREATE TRIGGER profile_truncated AFTER TRUNCATE ON tandem.profile
  FOR EACH STATEMENT EXECUTE FUNCTION tandem.profile_changed();

CREATE TABLE tandem.call_record (
  id       text PRIMARY KEY,
  instance text NOT NULL,
  call_id  text NOT NULL,
  caller   text NOT NULL,
  callee   text NOT NULL,
  ended    timestamptz NOT NULL,
  body     json NOT NULL);
CREATE INDEX call_record_ended ON tandem.call_record (ended, id);
CREATE INDEX call_record_caller ON tandem.call_record (caller, ended);
CREATE INDEX call_record_callee ON tandem.call_record (callee, ended);
CREATE INDEX call_record_call ON tandem.call_record (call_id);
)";

constexpr std::array<const char*, postgres_schema_version> migrations{version_1};

int version_of(pg_link& link) {
    if (link.run("SELECT to_regclass('tandem.schema_version') IS NULL").text(0, 0) == "t")
        return 0;
    return static_cast<int>(link.run("SELECT coalesce(max(version), 0) FROM tandem.schema_version").number(0, 0));
}

void refuse_newer(int version) {
    if (version > postgres_schema_version)
        throw schema_refused{fmt::format("the PostgreSQL database has schema {}, this program knows {}: run a newer "
                                         "tandem-controlplane, or name another database in conninfo",
                                         version, postgres_schema_version)};
}

} // namespace

void migrate(pg_link& link) {
    const auto encoding = link.run("SHOW server_encoding").text(0, 0);
    if (encoding != "UTF8")
        throw schema_refused{fmt::format("the PostgreSQL database has encoding {}: make one with ENCODING 'UTF8' and "
                                         "name it in conninfo",
                                         encoding)};
    auto version = version_of(link);
    refuse_newer(version);
    if (version == postgres_schema_version)
        return; // the usual start takes no lock and needs no right to make tables
    link.script("BEGIN");
    link.run("SELECT pg_advisory_xact_lock(7742380919)"); // any number that nobody else takes
    version = version_of(link);                           // another gateway may have done it meanwhile
    refuse_newer(version);
    link.script("CREATE SCHEMA IF NOT EXISTS tandem; CREATE TABLE IF NOT EXISTS tandem.schema_version (version int "
                "PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())");
    for (; version < postgres_schema_version; ++version) {
        link.script(migrations[static_cast<std::size_t>(version)]);
        link.run("INSERT INTO tandem.schema_version(version) VALUES ($1::int)", {std::to_string(version + 1)});
    }
    link.script("COMMIT");
}

} // namespace tandem::store
