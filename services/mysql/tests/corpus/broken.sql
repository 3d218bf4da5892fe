CREATE TABLE `gone ``1``` (`a b` INT, c VARCHAR(20) CHARACTER SET utf8mb4, p POINT, d DATE, z INT)

CREATE TABLE stays (x INT, y INT, later INT)

CREATE TABLE also (x INT, z TEXT)

INSERT INTO stays VALUES (1, 2, 3)

CREATE FUNCTION two(a INT, b INT) RETURNS INT DETERMINISTIC RETURN a + b

CREATE FUNCTION none() RETURNS INT DETERMINISTIC RETURN 1

CREATE SEQUENCE numbers

CREATE VIEW sound AS SELECT x FROM stays

CREATE DEFINER=nobody@nowhere SQL SECURITY INVOKER VIEW no_table AS SELECT `a b` AS `ä ``b```, c, 'from `x`.`y` it''s' AS t FROM `gone ``1``` WHERE c LIKE '%\\_ü%'

CREATE ALGORITHM=MERGE VIEW no_column AS SELECT y, later FROM stays WHERE later > 1 WITH LOCAL CHECK OPTION

CREATE VIEW no_function AS SELECT two(x, (SELECT MAX(y) FROM stays)) AS f, none() AS n FROM stays

CREATE VIEW no_sequence AS SELECT NEXTVAL(numbers) AS n, LASTVAL(numbers) AS l

CREATE VIEW of_shapes AS SELECT ST_X(g.p) AS x, ST_AsText(ST_Buffer(g.p, 1)) AS t FROM `gone ``1``` g

CREATE ALGORITHM=TEMPTABLE VIEW of_much AS WITH RECURSIVE q AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM q WHERE n < 5) SELECT s.x, COUNT(DISTINCT g.c) AS k, SUM(g.`a b`) OVER (PARTITION BY s.x ORDER BY g.d) AS r, EXTRACT(YEAR FROM g.d) AS y, TRIM(BOTH 'x' FROM g.c) AS tr, SUBSTRING(g.c FROM 2) AS su, CAST(g.c AS CHAR CHARACTER SET latin1) AS ca, q.n FROM q JOIN stays s ON s.x = q.n LEFT JOIN (`gone ``1``` g JOIN also USING (z)) ON g.`a b` = s.y AND g.c COLLATE utf8mb4_bin = 'x' WHERE EXISTS (SELECT 1 FROM `gone ``1``` i WHERE i.`a b` = s.x) AND s.x IN (SELECT x FROM also NATURAL JOIN stays) GROUP BY s.x HAVING k > 0 ORDER BY k, s.x LIMIT 5

CREATE VIEW of_unions AS (SELECT x FROM also LIMIT 1) UNION ALL (SELECT `a b` FROM `gone ``1```) EXCEPT SELECT y FROM stays ORDER BY x

CREATE VIEW derived AS SELECT t.k, u.* FROM (SELECT MAX(g.`a b`) AS k, g.c FROM `gone ``1``` AS g GROUP BY g.c) t STRAIGHT_JOIN also u

CREATE VIEW a_reads_broken AS SELECT * FROM no_table

CREATE VIEW z_reads_broken AS SELECT * FROM no_table WITH CASCADED CHECK OPTION

CREATE VIEW drover_view_0 AS SELECT x FROM also

SET NAMES latin1

CREATE VIEW of_latin AS SELECT c, _latin1 x'e4' AS e, 'plain' AS p FROM `gone ``1```

SET NAMES sjis

CREATE VIEW of_sjis AS SELECT c, _utf8mb4 x'e8a1a8' AS e, 'plain' AS p FROM `gone ``1```

SET NAMES utf8mb4 COLLATE utf8mb4_bin

CREATE VIEW `日本 ; --` AS SELECT c AS `列``"'` FROM `gone ``1```

DROP TABLE `gone ``1```

ALTER TABLE stays DROP COLUMN later

DROP FUNCTION two

DROP FUNCTION none

DROP SEQUENCE numbers

DROP TABLE also
