SELECT p.id, p.name, p.window_start
FROM (
  SELECT id, name, date_bin(INTERVAL '10 seconds', date_time) AS window_start
  FROM person
  GROUP BY id, name, date_bin(INTERVAL '10 seconds', date_time)
) p
JOIN (
  SELECT seller, date_bin(INTERVAL '10 seconds', date_time) AS window_start
  FROM auction
  GROUP BY seller, date_bin(INTERVAL '10 seconds', date_time)
) a
ON p.id = a.seller AND p.window_start = a.window_start
