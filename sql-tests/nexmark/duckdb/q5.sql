-- Hot items. Which auctions have seen the most bids in the last ten seconds, answered every two seconds? Windows begin at
-- each even second, and hold their beginning but not their end. Of each window all auctions with the most bids in it, and
-- how many; a window without bids has no rows.
WITH bids AS (
  SELECT auction, epoch_us(date_time) // 1000000 AS second FROM bid
),
windows AS (
  SELECT n AS start, n + 10 AS "end"
  FROM range((SELECT min(second) - 10 - min(second) % 2 FROM bids), (SELECT max(second) + 1 FROM bids), 2) r(n)
),
counted AS (
  SELECT w."end", b.auction, count(*) AS num
  FROM windows w JOIN bids b ON b.second >= w.start AND b.second < w."end"
  GROUP BY w."end", b.auction
)
SELECT auction, num
FROM counted c
WHERE NOT EXISTS (FROM counted more WHERE more."end" = c."end" AND more.num > c.num)
  AND make_timestamp(c."end" * 1000000) <= getvariable('bid_watermark');
