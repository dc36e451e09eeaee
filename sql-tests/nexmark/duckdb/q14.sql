-- Calculation. Bids of more than one and less than fifty million euros (0.908 of the price), with this price, whether it was
-- day (hours 8 to 18), night (hours 20 to 6) or neither, and how many letters c there are in extra.
SELECT auction, bidder, euros,
       CASE hour(date_time) WHEN 7 THEN 'otherTime' WHEN 19 THEN 'otherTime'
         ELSE if(hour(date_time) > 7 AND hour(date_time) < 19, 'dayTime', 'nightTime') END,
       date_time, extra, len(regexp_extract_all(extra, 'c'))
FROM (SELECT *, price::DECIMAL(18, 0) * 0.908::DECIMAL(4, 3) AS euros FROM bid)
WHERE price * 908 > 1000000000 AND price * 908 < 50000000000;
