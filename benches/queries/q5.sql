-- Hot items: in the last ten seconds, every two seconds, the auctions with the most bids.
SELECT counted.auction, counted.num
FROM (
  SELECT auction, count(*) AS num, window_start, window_end
  FROM HOP(bid, date_time, INTERVAL '2 seconds', INTERVAL '10 seconds')
  GROUP BY auction, window_start, window_end
) counted
JOIN (
  SELECT max(num) AS max_num, window_start, window_end
  FROM (
    SELECT count(*) AS num, window_start, window_end
    FROM HOP(bid, date_time, INTERVAL '2 seconds', INTERVAL '10 seconds')
    GROUP BY auction, window_start, window_end
  ) counts
  GROUP BY window_start, window_end
) most
ON counted.window_start = most.window_start AND counted.window_end = most.window_end AND counted.num >= most.max_num
