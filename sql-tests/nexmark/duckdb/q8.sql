-- Monitor new users. Persons who came and opened an auction within the same window of ten seconds: once per window, however
-- many auctions, with the window's start.
SELECT p.id, p.name, make_timestamp(epoch_us(p.date_time) // 10000000 * 10000000) AS start
FROM person p
WHERE EXISTS (
  FROM auction a WHERE a.seller = p.id AND epoch_us(a.date_time) // 10000000 = epoch_us(p.date_time) // 10000000
)
AND make_timestamp((epoch_us(p.date_time) // 10000000 + 1) * 10000000)
    <= least(getvariable('person_watermark'), getvariable('auction_watermark'));
