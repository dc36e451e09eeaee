-- Highest bid. Of each ten seconds the bids with the highest price. As the benchmark's text has it, a bid belongs to a
-- window whose end it hits exactly, besides its own, if its price equals the highest in there.
WITH windows AS (
  SELECT epoch_us(date_time) // 10000000 AS number, max(price) AS highest FROM bid GROUP BY number
)
SELECT auction, price, bidder, date_time, extra
FROM bid, windows
WHERE price = highest
  AND epoch_us(date_time) >= number * 10000000 AND epoch_us(date_time) <= (number + 1) * 10000000
  AND make_timestamp((number + 1) * 10000000) <= getvariable('bid_watermark');
