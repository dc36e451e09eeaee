SELECT b.auction, b.price, b.bidder, b.date_time, b.extra
FROM bid b
JOIN (
  SELECT max(price) AS max_price, date_bin(INTERVAL '10 seconds', date_time) + INTERVAL '10 seconds' AS window_end
  FROM bid
  GROUP BY date_bin(INTERVAL '10 seconds', date_time)
) m
ON b.price = m.max_price
WHERE b.date_time BETWEEN m.window_end - INTERVAL '10 seconds' AND m.window_end
