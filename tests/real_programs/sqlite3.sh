# A write-ahead log, which is shared memory; a sort that needs a temporary file.
set -eu
sqlite3 data.db <<'S'
pragma journal_mode = wal;
pragma cache_size = 10;
create table t (n integer primary key, text text);
with recursive all_n (n) as (select 1 union all select n + 1 from all_n where n < 20000)
insert into t select n, printf('%06d', (n * 7919) % 20011) from all_n;
create index by_text on t (text);
select count(*), min(text), max(text), sum(n) from t;
select group_concat(n) from (select n from t order by text desc, n limit 5);
select * from pragma_integrity_check;
S
sqlite3 data.db 'select count(*) from t' & sqlite3 other.db 'create table x (y)'; wait
sqlite3 data.db .dump | md5sum
