-- Highest bid of every ten seconds.
SELECT b.auction, b.price, b.bidder, b.date_time, b.extra
FROM bid b
JOIN (
  SELECT max(price) AS max_price, window_end
  FROM TUMBLE(bid, date_time, INTERVAL '10 seconds')
  GROUP BY window_start, window_end
) m
ON b.price = m.max_price
WHERE b.date_time BETWEEN m.window_end - INTERVAL '10 seconds' AND m.window_end
