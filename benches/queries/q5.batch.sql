-- DataFusion has no HOP: a bid is in the five windows that start up to eight seconds before its own two seconds.
WITH hop AS (
  SELECT auction, date_bin(INTERVAL '2 seconds', date_time) - back AS window_start
  FROM bid CROSS JOIN (VALUES (INTERVAL '0 seconds'), (INTERVAL '2 seconds'), (INTERVAL '4 seconds'),
                              (INTERVAL '6 seconds'), (INTERVAL '8 seconds')) AS windows(back)
)
SELECT counted.auction, counted.num
FROM (SELECT auction, count(*) AS num, window_start FROM hop GROUP BY auction, window_start) counted
JOIN (
  SELECT max(num) AS max_num, window_start
  FROM (SELECT count(*) AS num, window_start FROM hop GROUP BY auction, window_start) counts
  GROUP BY window_start
) most
ON counted.window_start = most.window_start AND counted.num >= most.max_num
